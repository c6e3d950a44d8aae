// The table of request fields: one row drives the JSON codec, the protobuf codec, the range checks
// and the documentation.
// Owns nothing. Must not know JSON or protobuf.
// Threads: immutable.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "penstock/service.h"

namespace penstock {

enum Surface : uint8_t {
  kCompletions = 1,
  kChat = 2,
  kGrpcGenerate = 4,
  kGrpcChat = 8,
  kEmbeddings = 16,
  kGrpcEmbed = 32,
  kRerank = 64,
  // Both wires
  kAnyText = kCompletions | kGrpcGenerate,
  kAnyChat = kChat | kGrpcChat,
  kEverywhere = kAnyText | kAnyChat,  // that generates
  kEmbed = kEmbeddings | kGrpcEmbed,
  kPooling = kEmbed | kRerank,
  // HTTP alone
  kHttp = kCompletions | kChat,
  kHttpPooling = kEmbeddings | kRerank,
};

/// Where a field's value goes; its type is the member's.
using FieldMember =
    std::variant<std::optional<double> GenerationCall::*, std::optional<int64_t> GenerationCall::*,
                 std::optional<bool> GenerationCall::*,
                 std::optional<std::string> GenerationCall::*,
                 std::vector<std::string> GenerationCall::*, std::vector<TokenId> GenerationCall::*,
                 std::vector<std::pair<TokenId, double>> GenerationCall::*>;

struct CallField {
  std::string_view name;
  uint8_t surfaces;  // of Surface: where the field is accepted
  FieldMember member;
  double min = 0,
         max = 0;  // of numbers; min == max: any. Lists of ids are bound to the vocabulary instead
  bool above_min = false;  // `min` itself is out of range
  std::string_view doc;
};

absl::Span<const CallField> CallFields();
/// The row of `name` where it is accepted on `surface`, or null.
const CallField* FindCallField(std::string_view name, Surface surface);
/// "a number in (0, 1]", for messages.
std::string ExpectedValue(const CallField& field);
/// Checks the ranges of all rows; INVALID_ARGUMENT names the field.
absl::Status CheckFieldRanges(const GenerationCall& call);

}  // namespace penstock
