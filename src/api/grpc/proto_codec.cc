#include "api/grpc/proto_codec.h"

#include <google/protobuf/reflection.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "penstock/v1/inference.pb.h"
#include "service/call_error.h"
#include "service/call_fields.h"
#include "service/chat_messages.h"
#include "service/json_body.h"
#include "service/output_format.h"
#include "service/tool_choice.h"

namespace penstock {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

using Json = nlohmann::ordered_json;

struct ProtoRow {
  const CallField* field;
  const FieldDescriptor* proto;
};

std::vector<ProtoRow> MakeProtoRows(const google::protobuf::Descriptor* descriptor,
                                    Surface surface) {
  std::vector<ProtoRow> rows;
  for (const CallField& field : CallFields()) {
    if ((field.surfaces & surface) == 0 || std::holds_alternative<OwnForm>(field.member)) continue;
    const FieldDescriptor* proto = descriptor->FindFieldByName(std::string(field.name));
    CHECK(proto != nullptr);  // the table and the .proto differ
    rows.push_back({&field, proto});
  }
  return rows;
}

template <class Request>
struct Copy {
  const Request& message;
  const FieldDescriptor* proto;
  GenerationCall& call;

  const Reflection& reflection() const { return *message.GetReflection(); }
  bool set() const { return reflection().HasField(message, proto); }
  void operator()(std::optional<double> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetDouble(message, proto);
  }
  void operator()(std::optional<int64_t> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetInt64(message, proto);
  }
  void operator()(std::optional<bool> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetBool(message, proto);
  }
  void operator()(std::optional<std::string> GenerationCall::*member) const {
    if (set()) call.*member = reflection().GetString(message, proto);
  }
  void operator()(std::vector<std::string> GenerationCall::*member) const {
    const auto& values = reflection().template GetRepeatedFieldRef<std::string>(message, proto);
    (call.*member).assign(values.begin(), values.end());
  }
  void operator()(std::vector<TokenId> GenerationCall::*member) const {
    const auto& values = reflection().template GetRepeatedFieldRef<int32_t>(message, proto);
    (call.*member).assign(values.begin(), values.end());
  }
  void operator()(OwnForm) const {}
  // The only map; reflection over maps is slow and awkward.
  void operator()(std::vector<std::pair<TokenId, double>> GenerationCall::*member) const {
    if constexpr (requires { message.logit_bias(); })
      (call.*member).assign(message.logit_bias().begin(), message.logit_bias().end());
  }
};

template <class Request, Surface kSurface>
void CopyFields(const Request& request, GenerationCall& call) {
  static const std::vector<ProtoRow> rows = MakeProtoRows(Request::descriptor(), kSurface);
  for (const ProtoRow& row : rows)
    std::visit(Copy<Request>{request, row.proto, call}, row.field->member);
}

PromptInput PromptOf(const v1::TokenIds& ids) {
  return {"", {ids.ids().begin(), ids.ids().end()}, true};
}

Json PartJson(const v1::ContentPart& part) {
  Json json = Json::object();
  if (part.has_type()) json["type"] = part.type();
  if (part.has_text()) json[part.type() == "refusal" ? "refusal" : "text"] = part.text();
  return json;
}

// The message as the HTTP API has it.
Json MessageJson(const v1::ChatMessage& message) {
  Json json = Json::object();
  json["role"] = message.role();
  if (message.has_content()) {
    json["content"] = message.content();
  } else if (message.has_content_parts()) {
    Json& parts = json["content"] = Json::array();
    for (const v1::ContentPart& part : message.content_parts().parts())
      parts.push_back(PartJson(part));
  }
  if (message.has_name()) json["name"] = message.name();
  if (message.has_tool_call_id()) json["tool_call_id"] = message.tool_call_id();
  if (message.has_reasoning_content()) json["reasoning_content"] = message.reasoning_content();
  if (message.tool_calls().empty()) return json;
  Json& calls = json["tool_calls"] = Json::array();
  for (const v1::ToolCall& call : message.tool_calls()) {
    calls.push_back({{"id", call.id()},
                     {"type", "function"},
                     {"function", {{"name", call.name()}, {"arguments", call.arguments()}}}});
  }
  return json;
}

// An array of what each text holds.
absl::Status ReadTexts(std::string_view name,
                       const google::protobuf::RepeatedPtrField<std::string>& texts,
                       GenerationCall& call) {
  if (texts.empty()) return absl::OkStatus();
  Json all = Json::array();
  for (int i = 0; i < texts.size(); ++i) {
    const std::string at = absl::StrCat(ToAbsl(name), "[", i, "]");
    absl::StatusOr<Json> json = ParseWireJson(texts[i], at);
    if (!json.ok()) return InvalidField(at, Message(json.status()));
    all.push_back(*std::move(json));
  }
  return ReadChatField(name, all, call);
}

// What the answer must look like, from fields that hold JSON.
template <class Request>
absl::Status ReadFormats(const Request& request, GenerationCall& call) {
  const auto read = [&](std::string_view name, const std::string& text) -> absl::Status {
    const absl::StatusOr<Json> json = ParseWireJson(text, name);
    if (!json.ok()) return InvalidField(name, Message(json.status()));
    return ReadFormatField(name, *json, call);
  };
  if (request.has_response_format())
    RETURN_IF_ERROR(read("response_format", request.response_format()));
  if (!request.has_structured_outputs()) return absl::OkStatus();
  return read("structured_outputs", request.structured_outputs());
}

// A word, or a function as JSON.
absl::Status ReadChoice(const std::string& text, GenerationCall& call) {
  constexpr std::string_view kName = "tool_choice";
  if (!text.starts_with('{')) return ReadToolChoice(kName, text, call);
  const absl::StatusOr<Json> json = ParseWireJson(text, kName);
  if (!json.ok()) return InvalidField(kName, Message(json.status()));
  return ReadToolChoice(kName, *json, call);
}

}  // namespace

absl::Status ReadCall(const v1::GenerateRequest& request, GenerationCall& call) {
  CopyFields<v1::GenerateRequest, kGrpcGenerate>(request, call);
  if (request.has_prompt()) call.prompts.push_back({request.prompt(), {}, false});
  if (request.has_prompt_ids()) call.prompts.push_back(PromptOf(request.prompt_ids()));
  return ReadFormats(request, call);
}

absl::Status ReadCall(const v1::ChatRequest& request, GenerationCall& call) {
  call.chat = call.splits_reply = true;
  CopyFields<v1::ChatRequest, kGrpcChat>(request, call);
  Json messages = Json::array();
  for (const v1::ChatMessage& message : request.messages())
    messages.push_back(MessageJson(message));
  RETURN_IF_ERROR(ReadChatField("messages", messages, call));
  RETURN_IF_ERROR(ReadTexts("tools", request.tools(), call));
  RETURN_IF_ERROR(ReadTexts("documents", request.documents(), call));
  RETURN_IF_ERROR(ReadFormats(request, call));
  if (request.has_tool_choice()) RETURN_IF_ERROR(ReadChoice(request.tool_choice(), call));
  if (!request.has_chat_template_kwargs()) return absl::OkStatus();
  constexpr std::string_view kArguments = "chat_template_kwargs";
  absl::StatusOr<Json> arguments = ParseWireJson(request.chat_template_kwargs(), kArguments);
  if (!arguments.ok()) return InvalidField(kArguments, Message(arguments.status()));
  return ReadChatField(kArguments, *arguments, call);
}

absl::Status ReadCall(const v1::TokenizeRequest& request, GenerationCall& call) {
  if (request.has_chat()) {
    RETURN_IF_ERROR(ReadCall(request.chat(), call));
  } else {
    call.prompts.push_back({request.text(), {}, false});
  }
  CopyFields<v1::TokenizeRequest, kGrpcTokenize>(request, call);
  return absl::OkStatus();
}

absl::Status ReadCall(const v1::EmbedRequest& request, EmbeddingCall& call) {
  CopyFields<v1::EmbedRequest, kGrpcEmbed>(request, call.base);
  if (request.input().empty()) return InvalidField("input", "input is missing");
  for (int i = 0; i < request.input_size(); ++i) {
    const v1::EmbedInput& input = request.input(i);
    if (input.has_ids()) {
      call.base.prompts.push_back(PromptOf(input.ids()));
    } else if (input.has_text()) {
      call.base.prompts.push_back({input.text(), {}, false});
    } else {
      const std::string at = absl::StrCat("input[", i, "]");
      return InvalidField(at, absl::StrCat(at, " must be a text or token ids"));
    }
  }
  return absl::OkStatus();
}

}  // namespace penstock
