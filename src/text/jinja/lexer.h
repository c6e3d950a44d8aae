// A template's source as tokens, with Jinja's rules for the white space around tags.
// Owns the tokens. Must not know grammar.
// Threads: n/a; a pure function.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace penstock::jinja {

struct Position {
  int32_t line = 1;
  int32_t column = 1;  // in bytes
};

/// INVALID_ARGUMENT: "line L, column C: message".
absl::Status ErrorAt(Position position, std::string_view message);

enum class TokenKind : uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  Position position;
  std::string text;  // data, name, operator, or a string's value
  int64_t integer = 0;
  double number = 0;
};

/// As an environment with trim_blocks and lstrip_blocks reads it. The last token is kEnd.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace penstock::jinja
