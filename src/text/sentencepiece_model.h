// A SentencePiece model as data: what a tokenizer.model holds, and what a GGUF file says of the
// same kind; and the tokenizer that it makes.
// Owns the pieces. Must not know where they come from.
// Threads: value.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/tokenizer.h"
#include "text/added_tokens.h"

namespace penstock {

struct SentencePiece {
  enum class Type : uint8_t {  // the numbers are those of both file formats
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  std::string text;
  float score = 0;
  Type type = Type::kNormal;
};

struct SentencePieceModel {
  enum class Algorithm { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };
  std::vector<SentencePiece> pieces;  // their ids are 0, 1, ...
  Algorithm algorithm = Algorithm::kUnigram;
  std::optional<TokenId> bos_id;
  std::optional<TokenId> eos_id;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::string charsmap;  // as Charsmap::Parse reads it; "": none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

struct SentencePieceOptions {
  std::optional<bool> add_bos;           // absent: where the model has a bos_id
  std::optional<bool> add_eos;           // absent: no
  std::vector<AddedToken> added_tokens;  // beside those of the model, which give way
  // The blank that a text starts with is put before every part between special tokens; else before
  // the first only.
  bool prefix_every_part = true;
};

/// INVALID_ARGUMENT with the byte offset or the piece at fault.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view file);

/// Control and unknown pieces are found in a text as special tokens. UNIMPLEMENTED by name for the
/// algorithms "word" and "char".
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(
    SentencePieceModel model, const SentencePieceOptions& options);

}  // namespace penstock
