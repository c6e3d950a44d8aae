// Tokenizers of directories that have no tokenizer.json: the vocab.txt of BERT, the vocab.json and
// merges.txt of GPT-2 and its kin.
// Owns nothing. Must not know engines or the wire.
// Threads: thread-safe.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "penstock/tokenizer.h"
#include "text/tokenizer_loader.h"

namespace penstock {

/// Whether `dir` has such files.
bool HasVocabularyFiles(const std::string& dir);

/// `config`: the tokenizer_config.json beside them, or an empty object. UNIMPLEMENTED, with the
/// names that are known, for another "tokenizer_class"; INVALID_ARGUMENT where a file is malformed.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabularyFiles(const std::string& dir,
                                                               const nlohmann::json& config,
                                                               const TokenizerOptions& options);

}  // namespace penstock
