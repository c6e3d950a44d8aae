// A chat template from anywhere: an error, or text, within its limits.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/time/time.h"
#include "text/jinja/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& context =
      *new penstock::jinja::Dict(*penstock::jinja::ToDict(nlohmann::ordered_json::parse(R"({
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "H\u00E4llo"},
                 {"role": "assistant", "content": null,
                  "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"x": 1.5}}}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "n": 3})")));
  const auto compiled =
      penstock::jinja::Template::Parse({reinterpret_cast<const char*>(data), size});
  if (!compiled.ok()) return 0;
  penstock::jinja::Limits limits;
  limits.max_steps = 20'000;
  limits.max_text_bytes = 1 << 20;
  compiled->Render(context, absl::FromUnixSeconds(1'721'997'296), limits).status().IgnoreError();
  return 0;
}
