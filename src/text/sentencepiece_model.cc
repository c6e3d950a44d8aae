#include "text/sentencepiece_model.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "format/protobuf_wire.h"

namespace penstock {
namespace {

// The field numbers of SentencePiece's ModelProto.
enum ModelField : uint32_t { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3 };
enum PieceField : uint32_t { kPieceText = 1, kPieceScore = 2, kPieceType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kByteFallback = 35,
  kBosId = 41,
  kEosId = 42,
};
enum NormalizerField : uint32_t {
  kCharsmap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5,
};

template <class Fn>
absl::Status ForEachField(std::string_view message, Fn fn) {
  ProtobufReader reader(message);
  while (!reader.done()) {
    ASSIGN_OR_RETURN(const ProtobufField field, reader.Next());
    fn(field);
  }
  return absl::OkStatus();
}

absl::StatusOr<SentencePiece> ParsePiece(std::string_view message) {
  SentencePiece piece;
  uint64_t type = static_cast<uint64_t>(SentencePiece::Type::kNormal);
  RETURN_IF_ERROR(ForEachField(message, [&](const ProtobufField& field) {
    if (field.number == kPieceText) piece.text = field.bytes;
    if (field.number == kPieceScore) piece.score = field.as_float();
    if (field.number == kPieceType) type = field.value;
  }));
  if (type < 1 || type > 6)
    return absl::InvalidArgumentError(absl::StrCat("type ", type, ", expected one of 1 to 6"));
  if (piece.text.empty() || !IsValidUtf8(piece.text))
    return absl::InvalidArgumentError("its text is empty or no UTF-8");
  if (!std::isfinite(piece.score)) return absl::InvalidArgumentError("its score is no number");
  piece.type = static_cast<SentencePiece::Type>(type);
  return piece;
}

std::optional<TokenId> OptionalId(uint64_t value) {
  const auto id = static_cast<int32_t>(value);
  return id < 0 ? std::nullopt : std::optional<TokenId>(id);
}

absl::Status ParseTrainerSpec(std::string_view message, SentencePieceModel* model,
                              uint64_t* algorithm) {
  return ForEachField(message, [&](const ProtobufField& field) {
    if (field.number == kModelType) *algorithm = field.value;
    if (field.number == kWhitespaceAsSuffix) model->whitespace_as_suffix = field.value != 0;
    if (field.number == kByteFallback) model->byte_fallback = field.value != 0;
    if (field.number == kBosId) model->bos_id = OptionalId(field.value);
    if (field.number == kEosId) model->eos_id = OptionalId(field.value);
  });
}

absl::Status ParseNormalizerSpec(std::string_view message, SentencePieceModel* model) {
  return ForEachField(message, [&](const ProtobufField& field) {
    if (field.number == kCharsmap) model->charsmap = field.bytes;
    if (field.number == kAddDummyPrefix) model->add_dummy_prefix = field.value != 0;
    if (field.number == kRemoveExtraWhitespaces) {
      model->remove_extra_whitespaces = field.value != 0;
    }
    if (field.number == kEscapeWhitespaces) model->escape_whitespaces = field.value != 0;
  });
}

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view file) {
  SentencePieceModel model;
  model.bos_id = 1;  // what the format's fields default to
  model.eos_id = 2;
  uint64_t algorithm = static_cast<uint64_t>(SentencePieceModel::Algorithm::kUnigram);
  ProtobufReader reader(file);
  while (!reader.done()) {
    ASSIGN_OR_RETURN(const ProtobufField field, reader.Next());
    if (field.number == kPieces) {
      absl::StatusOr<SentencePiece> piece = ParsePiece(field.bytes);
      if (!piece.ok()) return Annotate(piece.status(), absl::StrCat("piece ", model.pieces.size()));
      model.pieces.push_back(*std::move(piece));
    } else if (field.number == kTrainerSpec) {
      RETURN_IF_ERROR(ParseTrainerSpec(field.bytes, &model, &algorithm));
    } else if (field.number == kNormalizerSpec) {
      RETURN_IF_ERROR(ParseNormalizerSpec(field.bytes, &model));
    }
  }
  if (model.pieces.empty())
    return absl::InvalidArgumentError("not a SentencePiece model: it has no pieces");
  if (algorithm < 1 || algorithm > 4) {
    return absl::InvalidArgumentError(
        absl::StrCat("model type ", algorithm, ", expected one of 1 to 4"));
  }
  model.algorithm = static_cast<SentencePieceModel::Algorithm>(algorithm);
  return model;
}

}  // namespace penstock
