// A tokenizer as a GGUF file describes it, as data, and the tokenizer that it makes.
// Owns the tables. Must not know the file format.
// Threads: value.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/tokenizer.h"
#include "penstock/types.h"

namespace penstock {

/// The members are the file's tokenizer.ggml.* values.
struct GgufVocabulary {
  std::string model;                 // "gpt2", "llama", "bert", "t5"
  std::string pre;                   // how words are cut; "": "default"
  std::vector<std::string> tokens;   // their ids are 0, 1, ...
  std::vector<float> scores;         // [tokens], or empty
  std::vector<int32_t> token_types;  // [tokens] of SentencePiece::Type, or empty: all normal
  std::vector<std::string> merges;   // "a b", best first
  std::string precompiled_charsmap;
  std::optional<TokenId> bos_id;
  std::optional<TokenId> eos_id;
  std::optional<TokenId> eot_id;
  std::optional<TokenId> eom_id;
  std::optional<TokenId> unk_id;
  std::optional<TokenId> sep_id;
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<bool> add_space_prefix;
  std::optional<bool> remove_extra_whitespaces;
};

/// INVALID_ARGUMENT where the tables do not fit together; UNIMPLEMENTED, with the names that are
/// known, for another model or pre-tokenizer.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeGgufTokenizer(GgufVocabulary vocabulary);

}  // namespace penstock
