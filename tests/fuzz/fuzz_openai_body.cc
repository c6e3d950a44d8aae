// Bodies of the OpenAI and Anthropic routes, up to the call.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "api/anthropic/messages_codec.h"
#include "api/http/json_text.h"
#include "api/openai/call_codec.h"
#include "api/openai/embedding_codec.h"
#include "api/openai/responses_codec.h"
#include "base/strings.h"
#include "service/call_fields.h"
#include "service/json_body.h"
#include "service/sampling.h"
#include "service/wire_json.h"

namespace {

using Json = nlohmann::ordered_json;

// What is read as a chat must be messages of text that a template can take.
void CheckMessages(const penstock::GenerationCall& call) {
  if (!call.chat || call.messages == nullptr || call.messages->empty()) __builtin_trap();
  for (const Json& message : *call.messages) {
    if (!message["role"].is_string() || !message["content"].is_string()) __builtin_trap();
  }
}

void ReadDialogues(std::string_view text) {
  using namespace penstock;
  for (const bool counting : {false, true}) {
    absl::StatusOr<WireDocument> body = WireDocument::Parse(text);
    GenerationCall call;
    const absl::Status status = ReadMessagesCall(body->root(), counting, call);
    if (status.ok()) {
      CheckMessages(call);
    } else if (!Json::accept(MessagesErrorBody(400, Message(status), "", "id"))) {
      __builtin_trap();
    }
  }
  absl::StatusOr<WireDocument> body = WireDocument::Parse(text);
  GenerationCall call;
  ResponseRequest request;
  if (!ReadResponseCall(body->root(), call, request).ok() || !Json::accept(request.metadata))
    return;
  const Json before = Json::array({{{"role", "user"}, {"content", "x"}}});
  if (JoinConversation(&before, call, request).ok()) CheckMessages(call);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The reader without a tree and the one with it take the same and say the same.
  const absl::StatusOr<WireDocument> read = WireDocument::Parse(text);
  const absl::StatusOr<Json> tree = ParseWireJson(text);
  if (read.status() != tree.status()) __builtin_trap();
  if (read.ok() && read->root().Tree().dump() != tree->dump()) __builtin_trap();
  ServedModel model;
  model.name = "m";
  model.vocab_size = 258;
  model.max_context = 4096;
  for (Surface surface : {kCompletions, kChat}) {
    absl::StatusOr<WireDocument> body = WireDocument::Parse(text);
    if (!body.ok()) {
      const std::string answer = ErrorBody(400, Message(body.status()), "");
      if (!nlohmann::json::accept(answer)) __builtin_trap();
      return 0;
    }
    GenerationCall call;
    if (!ReadCall(body->root(), surface, call).ok() || !CheckFieldRanges(call).ok()) continue;
    if (!CheckFieldsTogether(call, model, 16).ok()) continue;
    const absl::StatusOr<GenerateRequest> request = MakeRequest(call, model, 10);
    if (request.ok() && (request->max_tokens < 1 || request->max_tokens > 4086)) __builtin_trap();
  }
  ReadDialogues(text);
  for (const auto read : {ReadEmbeddingCall, ReadRerankCall}) {
    absl::StatusOr<WireDocument> body = WireDocument::Parse(text);
    EmbeddingCall call;
    EmbeddingShape shape;
    if (read(body->root(), call, shape).ok() && call.base.prompts.empty()) __builtin_trap();
  }
  return 0;
}
