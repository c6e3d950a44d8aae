// The way of a call for embeddings or scores through the chain: its texts pass the links as a
// completion's prompts do; there is no answer of text for them to see.
// Owns nothing. Must not know what links do, nor the wire.
// Threads: on one text worker.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "service/chain_call.h"
#include "service/embedding_stream.h"
#include "service/generation_service.h"

namespace penstock {

/// May change the call's texts and the model that it names. `service` finds models for links.
absl::Status PassPoolingLinks(const GenerationService& service, ChainCall& chain,
                              EmbeddingCall& call);

}  // namespace penstock
