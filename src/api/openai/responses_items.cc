#include "api/openai/responses_items.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "api/http/json_text.h"
#include "base/strings.h"
#include "service/ids.h"

namespace penstock {

ResponseItem NewItem(ResponseItem::Kind kind) {
  constexpr const char* kPrefixes[] = {"rs_", "msg_", "fc_"};
  ResponseItem item;
  item.kind = kind;
  item.id = kPrefixes[kind] + MakeRequestId();
  return item;
}

ResponseItem NewItem(const CallDelta& call) {
  ResponseItem item = NewItem(ResponseItem::kCall);
  item.call_id = call.id;
  item.name = call.name;
  item.call = call.index;
  return item;
}

void AppendItemPart(std::string& out, ResponseItem::Kind kind, std::string_view text) {
  out += kind == ResponseItem::kReasoning
             ? "{\"type\":\"reasoning_text\",\"text\":"
             : "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":";
  AppendJsonString(out, text);
  out += '}';
}

void AppendResponseItem(std::string& out, const ResponseItem& item, std::string_view status,
                        bool begun) {
  constexpr const char* kTypes[] = {"reasoning", "message", "function_call"};
  absl::StrAppend(&out, "{\"id\":\"", item.id, "\",\"type\":\"", kTypes[item.kind],
                  "\",\"status\":\"", ToAbsl(status), "\"");
  if (item.kind == ResponseItem::kCall) {
    out += ",\"call_id\":";
    AppendJsonString(out, item.call_id);
    out += ",\"name\":";
    AppendJsonString(out, item.name);
    out += ",\"arguments\":";
    AppendJsonString(out, begun ? std::string_view() : item.text);
    out += '}';
    return;
  }
  out += item.kind == ResponseItem::kReasoning ? ",\"summary\":[],\"content\":["
                                               : ",\"role\":\"assistant\",\"content\":[";
  if (!begun) AppendItemPart(out, item.kind, item.text);
  out += "]}";
}

nlohmann::ordered_json MessageOf(const std::vector<ResponseItem>& items) {
  std::string content, reasoning;
  auto calls = nlohmann::ordered_json::array();
  for (const ResponseItem& item : items) {
    switch (item.kind) {
      case ResponseItem::kReasoning:
        reasoning += item.text;
        break;
      case ResponseItem::kMessage:
        content += item.text;
        break;
      case ResponseItem::kCall:
        // One that was broken off is no call that a conversation could go on from.
        if (!nlohmann::json::parse(item.text, nullptr, false).is_object()) break;
        calls.push_back({{"id", item.call_id},
                         {"type", "function"},
                         {"function", {{"name", item.name}, {"arguments", item.text}}}});
        break;
    }
  }
  nlohmann::ordered_json message = {{"role", "assistant"}, {"content", content}};
  if (content.empty() && !calls.empty()) message["content"] = nullptr;
  if (!reasoning.empty()) message["reasoning_content"] = reasoning;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

}  // namespace penstock
