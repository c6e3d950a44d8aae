#include "format/protobuf_wire.h"

#include <bit>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

absl::Status CutProtobuf(size_t pos) {
  return absl::InvalidArgumentError(absl::StrCat("protobuf: cut at byte ", pos));
}

}  // namespace

float ProtobufField::as_float() const {
  return type == Type::kFixed32 ? std::bit_cast<float>(static_cast<uint32_t>(value)) : 0.0f;
}

absl::StatusOr<uint64_t> ProtobufReader::ReadVarint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (done()) return CutProtobuf(pos_);
    const auto byte = static_cast<uint8_t>(message_[pos_++]);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("protobuf: a number of more than 10 bytes before byte ", pos_));
}

absl::StatusOr<uint64_t> ProtobufReader::ReadFixed(size_t num_bytes) {
  if (message_.size() - pos_ < num_bytes) return CutProtobuf(pos_);
  uint64_t value = 0;
  for (size_t i = num_bytes; i-- > 0;)
    value = value << 8 | static_cast<uint8_t>(message_[pos_ + i]);
  pos_ += num_bytes;
  return value;
}

absl::StatusOr<ProtobufField> ProtobufReader::Next() {
  const size_t begin = pos_;
  ASSIGN_OR_RETURN(const uint64_t tag, ReadVarint());
  constexpr uint64_t kMaxTag = (uint64_t{1} << 32) - 1;
  if (tag > kMaxTag || tag >> 3 == 0) {
    return absl::InvalidArgumentError(absl::StrCat("protobuf: no field number at byte ", begin));
  }
  ProtobufField field;
  field.number = static_cast<uint32_t>(tag >> 3);
  field.type = static_cast<ProtobufField::Type>(tag & 7);
  switch (field.type) {
    case ProtobufField::Type::kVarint: {
      ASSIGN_OR_RETURN(field.value, ReadVarint());
      return field;
    }
    case ProtobufField::Type::kFixed64: {
      ASSIGN_OR_RETURN(field.value, ReadFixed(8));
      return field;
    }
    case ProtobufField::Type::kFixed32: {
      ASSIGN_OR_RETURN(field.value, ReadFixed(4));
      return field;
    }
    case ProtobufField::Type::kBytes: {
      ASSIGN_OR_RETURN(const uint64_t size, ReadVarint());
      if (size > message_.size() - pos_) return CutProtobuf(pos_);
      field.bytes = message_.substr(pos_, size);
      pos_ += size;
      return field;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("protobuf: wire type ", tag & 7, " at byte ", begin, " is not supported"));
}

}  // namespace penstock
