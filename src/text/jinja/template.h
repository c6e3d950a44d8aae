// A Jinja2 template, compiled once and rendered often.
// Owns its syntax tree. Must not know chats or files.
// Threads: immutable; renderings run side by side.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

namespace penstock::jinja {

class Template {
 public:
  /// INVALID_ARGUMENT "line L, column C: ..." where `source` does not parse.
  static absl::StatusOr<Template> Parse(std::string_view source);

  /// INVALID_ARGUMENT where the template raises, RESOURCE_EXHAUSTED past `limits`. `now` is what
  /// strftime_now formats.
  absl::StatusOr<std::string> Render(const Dict& context, absl::Time now,
                                     const Limits& limits = {}) const;

 private:
  explicit Template(Program program) : program_(std::move(program)) {}
  Program program_;
};

/// An object as a template sees it. INVALID_ARGUMENT where it is no object or nests deeper than
/// kMaxValueDepth.
absl::StatusOr<Dict> ToDict(const nlohmann::ordered_json& json);

}  // namespace penstock::jinja
