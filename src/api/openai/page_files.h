// The files of the page at /, as they lie in api/openai/page when the server is built.
// Owns them. Must not know HTTP.
// Threads: thread-safe.
#pragma once

#include <string_view>

#include "absl/types/span.h"

namespace penstock {

struct PageFile {
  std::string_view name;
  std::string_view content;
};

/// Made by cmake/EmbedPage.cmake.
absl::Span<const PageFile> PageFiles();

}  // namespace penstock
