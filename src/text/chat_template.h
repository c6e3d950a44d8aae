// A model's chat template, compiled once.
// Owns the parsed template. Must not know requests or the wire.
// Threads: immutable.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

namespace jinja {
class Template;
}

class ChatTemplate {
 public:
  /// INVALID_ARGUMENT with line and column where `source` does not parse.
  static absl::StatusOr<ChatTemplate> Parse(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// `context`: messages, tools, add_generation_prompt, bos_token, ... as an object (key order is
  /// kept, as Python's dict).
  /// `now` is what strftime_now formats. INVALID_ARGUMENT where the template raises;
  /// RESOURCE_EXHAUSTED past the evaluator's limits (steps, output bytes, depth).
  absl::StatusOr<std::string> Render(const nlohmann::ordered_json& context, absl::Time now) const;

  const std::string& source() const { return source_; }

 private:
  ChatTemplate(std::unique_ptr<jinja::Template> compiled, std::string_view source);
  std::unique_ptr<jinja::Template> template_;
  std::string source_;
};

}  // namespace penstock
