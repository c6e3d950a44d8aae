#include "service/reply_setup.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace penstock {
namespace {

using ToolJson = nlohmann::ordered_json;

/// The member, or null where there is none.
const ToolJson& MemberOf(const ToolJson& object, const char* name) {
  static const ToolJson kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(name);
  return found == object.end() ? kNothing : *found;
}

std::shared_ptr<const StringParameters> StringParametersOf(const ToolJson& tools) {
  auto types = std::make_shared<StringParameters>();
  for (const ToolJson& tool : tools) {
    const ToolJson& function = MemberOf(tool, "function");
    const ToolJson& name = MemberOf(function, "name");
    const ToolJson& properties = MemberOf(MemberOf(function, "parameters"), "properties");
    if (!name.is_string() || !properties.is_object()) continue;
    auto& of_function = (*types)[name.get<std::string>()];
    for (const auto& [key, schema] : properties.items())
      of_function[key] = MemberOf(schema, "type") == "string";
  }
  return types;
}

}  // namespace

void SetReply(const GenerationCall& call, const ServedModel& model,
              const std::vector<TokenId>& prompt, StreamSetup& setup) {
  setup.reply.reasoning = model.reasoning_format;
  if (call.calls_functions) setup.reply.calls = model.call_format;
  if (setup.reply.calls != nullptr && WritesXml(setup.reply.calls->body))
    setup.string_parameters = StringParametersOf(*call.tools);
  if (model.tokenizer == nullptr) return;
  if (setup.reply.reasoning != nullptr) {
    constexpr size_t kTail = 16;  // tokens, in which a template would have begun it
    const size_t begin = prompt.size() > kTail ? prompt.size() - kTail : 0;
    const std::string tail =
        model.tokenizer->Decode(absl::MakeConstSpan(prompt).subspan(begin), false);
    setup.in_reasoning = EndsInReasoning(*setup.reply.reasoning, tail);
  }
  for (const std::string_view marker : MarkersOf(setup.reply)) {
    if (const auto id = model.tokenizer->TokenToId(marker)) setup.reply_markers.push_back(*id);
  }
}

}  // namespace penstock
