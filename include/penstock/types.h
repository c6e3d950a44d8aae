// The words that every world shares: identifiers, element types, reasons.
// Owns nothing. Must not know tensors, text or the wire.
// Threads: value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <ostream>
#include <string_view>

namespace penstock {

/// A number with a kind: a slot is never passed where a block is meant.
template <class Tag, class Rep>
struct StrongId {
  using rep = Rep;
  Rep value{};
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep v) : value(v) {}
  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  template <class H>
  friend H AbslHashValue(H h, StrongId id) {
    return H::combine(std::move(h), id.value);
  }
  friend std::ostream& operator<<(std::ostream& out, StrongId id) { return out << id.value; }
};

using TokenId = int32_t;  // an index into the vocabulary
using RequestId =
    StrongId<struct RequestIdTag, uint64_t>;  // chosen by the caller of Engine::Submit
using SequenceId =
    StrongId<struct SequenceIdTag, uint64_t>;         // chosen by the scheduler, never reused
using StepId = StrongId<struct StepIdTag, uint64_t>;  // grows from one launched step to the next
using SlotId = StrongId<struct SlotIdTag, int32_t>;   // [0, ExecutorLimits::num_slots)
using AdapterId = StrongId<struct AdapterIdTag, int32_t>;  // -1: none
using BlockId = int32_t;                                   // [0, CacheGroup::num_blocks), -1: none

inline constexpr AdapterId kNoAdapter{-1};
inline constexpr BlockId kNoBlock = -1;
inline constexpr int kMaxCacheGroups = 4;

enum class DType : uint8_t {
  kFloat32,
  kFloat16,
  kBFloat16,
  kInt32,
  kInt8,
  kUInt8,
  kInt64,
  kFloat8E4M3,  // the variant without infinities
  kFloat8E8M0,  // a power of two
};

/// Bytes of one element.
constexpr size_t DTypeSize(DType t) {
  switch (t) {
    case DType::kInt64:
      return 8;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    case DType::kInt8:
    case DType::kUInt8:
    case DType::kFloat8E4M3:
    case DType::kFloat8E8M0:
      return 1;
  }
  return 0;
}

constexpr std::string_view DTypeName(DType t) {
  switch (t) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kInt32:
      return "int32";
    case DType::kInt8:
      return "int8";
    case DType::kUInt8:
      return "uint8";
    case DType::kInt64:
      return "int64";
    case DType::kFloat8E4M3:
      return "float8_e4m3";
    case DType::kFloat8E8M0:
      return "float8_e8m0";
  }
  return "?";
}

/// Why a request ended. `kStop` covers end-of-sequence and stop token ids; stop *strings* are found
/// by the service, which then cancels.
enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kDeadline, kError };

}  // namespace penstock
