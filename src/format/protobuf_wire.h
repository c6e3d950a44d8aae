// The fields of a protocol-buffer message, read one by one from bytes, without a schema.
// Owns nothing: what it gives are views of the message. Must not know what the fields mean.
// Threads: confined to its reader.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

struct ProtobufField {
  enum class Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  uint32_t number = 0;
  Type type = Type::kVarint;
  uint64_t value = 0;      // of a kVarint, kFixed64, kFixed32
  std::string_view bytes;  // of a kBytes: a string or an inner message

  float as_float() const;  // of a kFixed32; 0 for others
};

class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : message_(message) {}
  bool done() const { return pos_ >= message_.size(); }
  /// The next field. INVALID_ARGUMENT with the byte offset where it is cut or malformed, and for
  /// the groups of old.
  absl::StatusOr<ProtobufField> Next();

 private:
  absl::StatusOr<uint64_t> ReadVarint();
  absl::StatusOr<uint64_t> ReadFixed(size_t num_bytes);

  std::string_view message_;
  size_t pos_ = 0;
};

}  // namespace penstock
