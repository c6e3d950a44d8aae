#include "backend/scale_type.h"

#include <cstring>

#include "base/half.h"

namespace penstock {
namespace {

uint32_t BitsOf(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bits;
}

}  // namespace

void ScaleType::Add(absl::Span<const float> scales) {
  for (const float scale : scales) {
    const uint32_t bits = BitsOf(scale);
    const uint32_t exponent = bits >> 23;  // 256 and more: negative
    power_of_two_ &= (bits & 0x7fffff) == 0 && exponent >= 1 && exponent <= 254;
    bf16_ &= (bits & 0xffff) == 0;
    if (fp16_) fp16_ = BitsOf(Fp16ToFloat(FloatToFp16(scale))) == bits;
  }
}

void ScaleType::Add(const ScaleType& other) {
  power_of_two_ &= other.power_of_two_;
  bf16_ &= other.bf16_;
  fp16_ &= other.fp16_;
}

DType ScaleType::Get() const {
  if (power_of_two_) return DType::kFloat8E8M0;
  if (bf16_) return DType::kBFloat16;
  return fp16_ ? DType::kFloat16 : DType::kFloat32;
}

void StoreScale(DType type, float scale, void* to) {
  const uint32_t bits = BitsOf(scale);
  if (type == DType::kFloat8E8M0) {
    *static_cast<uint8_t*>(to) = static_cast<uint8_t>(bits >> 23);
  } else if (type == DType::kFloat32) {
    std::memcpy(to, &bits, sizeof bits);
  } else {
    const uint16_t half =
        type == DType::kBFloat16 ? static_cast<uint16_t>(bits >> 16) : FloatToFp16(scale);
    std::memcpy(to, &half, sizeof half);
  }
}

}  // namespace penstock
