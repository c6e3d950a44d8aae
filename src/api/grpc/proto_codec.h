// Protobuf requests -> calls. Fields are found by their names in the table of call fields; chats
// go through the checks of service/chat_messages.h, as those of HTTP do.
// Owns nothing. Must not know gRPC, models or ranges.
// Threads: thread-safe; a chat's JSON may be long, so on a text worker.
#pragma once

#include "absl/status/status.h"
#include "penstock/service.h"
#include "service/embedding_stream.h"

namespace penstock {

namespace v1 {
class ChatRequest;
class EmbedRequest;
class GenerateRequest;
class TokenizeRequest;
}  // namespace v1

/// Copies every field that the client set. INVALID_ARGUMENT names what is malformed.
absl::Status ReadCall(const v1::GenerateRequest& request, GenerationCall& call);
absl::Status ReadCall(const v1::ChatRequest& request, GenerationCall& call);
absl::Status ReadCall(const v1::EmbedRequest& request, EmbeddingCall& call);
absl::Status ReadCall(const v1::TokenizeRequest& request, GenerationCall& call);

}  // namespace penstock
