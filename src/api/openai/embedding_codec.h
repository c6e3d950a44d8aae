// JSON of /v1/embeddings and /v1/rerank: bodies -> EmbeddingCall, results -> answers.
// Owns nothing. Must not know models or sockets.
// Threads: thread-safe; on a text worker, since bodies and answers may be long.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/embedding_stream.h"
#include "service/wire_json.h"

namespace penstock {

/// How a client wants its answer.
struct EmbeddingShape {
  bool base64 = false;  // embeddings: little-endian float32
  bool return_documents = true;
  int64_t top_n = 0;                   // rerank: so many of the best; 0: all
  std::vector<std::string> documents;  // rerank: texts that the answer repeats
};

/// INVALID_ARGUMENT names the field.
absl::Status ReadEmbeddingCall(const WireValue& body, EmbeddingCall& call, EmbeddingShape& shape);
/// The same of a rerank.
absl::Status ReadRerankCall(const WireValue& body, EmbeddingCall& call, EmbeddingShape& shape);

std::string EmbeddingBody(const EmbeddingShape& shape, const EmbeddingResult& result);
/// Best first.
std::string RerankBody(const EmbeddingShape& shape, const EmbeddingResult& result);

}  // namespace penstock
