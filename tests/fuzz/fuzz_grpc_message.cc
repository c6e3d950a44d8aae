// Protobuf bytes of the gRPC methods, up to the request that an engine would get. The first byte
// chooses the message, the rest is it.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "api/grpc/proto_codec.h"
#include "penstock/v1/inference.pb.h"
#include "service/call_fields.h"
#include "service/sampling.h"

namespace {

using namespace penstock;

template <class Message>
bool Parse(std::string_view bytes, Message& message) {
  return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

template <class Message>
void ReadGeneration(std::string_view bytes, const ServedModel& model) {
  Message message;
  if (!Parse(bytes, message)) return;
  GenerationCall call;
  if (!ReadCall(message, call).ok()) return;
  if (call.chat && (call.messages == nullptr || call.messages->empty())) __builtin_trap();
  if (!CheckFieldRanges(call).ok() || !CheckFieldsTogether(call, model, 16).ok()) return;
  const absl::StatusOr<GenerateRequest> request = MakeRequest(call, model, 10);
  if (request.ok() && (request->max_tokens < 1 || request->max_tokens > 4086)) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  ServedModel model;
  model.name = "m";
  model.vocab_size = 258;
  model.max_context = 4096;
  switch (data[0] % 3) {
    case 0:
      ReadGeneration<v1::GenerateRequest>(bytes, model);
      break;
    case 1:
      ReadGeneration<v1::ChatRequest>(bytes, model);
      break;
    default:
      v1::EmbedRequest message;
      EmbeddingCall call;
      if (Parse(bytes, message) && ReadCall(message, call).ok() && call.base.prompts.empty())
        __builtin_trap();
  }
  return 0;
}
