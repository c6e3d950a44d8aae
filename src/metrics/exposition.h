// The text of a scrape, where it differs from what prometheus-cpp writes.
// Owns nothing. Must not know the catalogue.
// Threads: thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace penstock {

/// The bounds of histograms as Python's client writes them, which rules made for vLLM select by their
/// text: le="1.0", le="1e+06". `text` is prometheus-cpp's, with `le` as the last label of a line.
std::string WithPythonBounds(std::string_view text);

}  // namespace penstock
