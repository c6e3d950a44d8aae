// Bodies of /v1/completions, /v1/chat/completions, /v1/embeddings and /v1/rerank, up to the call.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "api/http/json_text.h"
#include "api/openai/call_codec.h"
#include "api/openai/embedding_codec.h"
#include "base/strings.h"
#include "service/call_fields.h"
#include "service/json_body.h"
#include "service/sampling.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ServedModel model;
  model.name = "m";
  model.vocab_size = 258;
  model.max_context = 4096;
  for (Surface surface : {kCompletions, kChat}) {
    absl::StatusOr<nlohmann::ordered_json> body = ParseWireJson(text);
    if (!body.ok()) {
      const std::string answer = ErrorBody(400, Message(body.status()), "");
      if (!nlohmann::json::accept(answer)) __builtin_trap();
      return 0;
    }
    GenerationCall call;
    if (!ReadCall(*body, surface, call).ok() || !CheckFieldRanges(call).ok()) continue;
    if (!CheckFieldsTogether(call, model, 16).ok()) continue;
    const absl::StatusOr<GenerateRequest> request = MakeRequest(call, model, 10);
    if (request.ok() && (request->max_tokens < 1 || request->max_tokens > 4086)) __builtin_trap();
  }
  for (const auto read : {ReadEmbeddingCall, ReadRerankCall}) {
    absl::StatusOr<nlohmann::ordered_json> body = ParseWireJson(text);
    EmbeddingCall call;
    EmbeddingShape shape;
    if (read(*body, call, shape).ok() && call.base.prompts.empty()) __builtin_trap();
  }
  return 0;
}
