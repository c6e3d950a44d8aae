// The table of request fields: one row drives the JSON codec, the protobuf codec, the range checks
// and docs/api.md.
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

enum Surface : uint16_t {
  kCompletions = 1,
  kChat = 2,
  kGrpcGenerate = 4,
  kGrpcChat = 8,
  kEmbeddings = 16,
  kGrpcEmbed = 32,
  kRerank = 64,
  kMessages = 128,  // Anthropic's
  kResponses = 256,
  kTokenize = 512,
  kDetokenize = 1024,
  kLoadAdapter = 2048,
  kUnloadAdapter = 4096,
  kGrpcTokenize = 8192,
  kGrpcDetokenize = 16384,
  // Both wires
  kAnyText = kCompletions | kGrpcGenerate,
  kAnyChat = kChat | kGrpcChat,
  kEverywhere = kAnyText | kAnyChat,  // that generates
  kEmbed = kEmbeddings | kGrpcEmbed,
  kPooling = kEmbed | kRerank,
  // HTTP alone
  kHttp = kCompletions | kChat,
  kDialogues = kMessages | kResponses,
  kHttpText = kHttp | kDialogues,
  kHttpPooling = kEmbeddings | kRerank,
  kTokens = kTokenize | kDetokenize | kGrpcTokenize | kGrpcDetokenize,
  kAdapters = kLoadAdapter | kUnloadAdapter,
};

/// A field with a form of its own, which its codec reads. Messages say what is expected.
struct OwnForm {
  std::string_view expected;
  std::string_view schema;  // of JSON Schema; what only gRPC has needs none
};

/// Where a field's value goes; its type is the member's.
using FieldMember =
    std::variant<std::optional<double> GenerationCall::*, std::optional<int64_t> GenerationCall::*,
                 std::optional<bool> GenerationCall::*,
                 std::optional<std::string> GenerationCall::*,
                 std::vector<std::string> GenerationCall::*, std::vector<TokenId> GenerationCall::*,
                 std::vector<std::pair<TokenId, double>> GenerationCall::*, OwnForm>;

struct CallField {
  std::string_view name;
  uint16_t surfaces;  // of Surface: where the field is accepted
  FieldMember member;
  double min = 0,
         max = 0;  // of numbers; min == max: any. Lists of ids are bound to the vocabulary instead
  bool above_min = false;  // `min` itself is out of range
  std::string_view doc;
};

/// A field of the API that would change the result and is refused where it is used.
struct UnsupportedField {
  std::string_view name;
  uint16_t surfaces;
  std::string_view instead;  // what to do, or why
};

absl::Span<const CallField> CallFields();
absl::Span<const UnsupportedField> UnsupportedFields();
/// The row of `name` where it is accepted on `surface`, or null.
const CallField* FindCallField(std::string_view name, Surface surface);
/// "a number in (0, 1]", for messages.
std::string ExpectedValue(const CallField& field);
/// docs/api.md, generated from the rows.
std::string CallFieldsMarkdown();
/// Checks the ranges of all rows; INVALID_ARGUMENT names the field.
absl::Status CheckFieldRanges(const GenerationCall& call);

}  // namespace penstock
