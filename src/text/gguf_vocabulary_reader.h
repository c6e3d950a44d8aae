// The tokenizer's tables out of the metadata of a GGUF file.
// Owns nothing. Must not know what the tables mean.
// Threads: n/a; a pure function.
#pragma once

#include "absl/status/statusor.h"
#include "format/gguf.h"
#include "text/gguf_vocabulary.h"

namespace penstock {

/// `model` is empty, and the tables are, where the file has no tokenizer. INVALID_ARGUMENT where a
/// value is of the wrong type.
absl::StatusOr<GgufVocabulary> ReadGgufVocabulary(const Gguf& file);

}  // namespace penstock
