#include "format/ggml_blocks.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/half.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int kSuperBlock = 256;  // elements of a K type's block

constexpr std::array<float, 16> kNonLinearBook = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                  1,    13,   25,  38,  53,  69,  89,  113};
// e2m1, doubled: the scale is halved.
constexpr std::array<float, 16> kMxfp4Book = {
    0, 1, 2, 3, 4, 6, 8, 12, 0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -6.0f, -8.0f, -12.0f};

struct NumberedType {
  uint32_t type;
  GgmlTypeInfo info;
};

// clang-format off
constexpr NumberedType kGgmlTypes[] = {
    {0,  {"F32", 1, 4}},          {1,  {"F16", 1, 2}},         {2,  {"Q4_0", 32, 18}},
    {3,  {"Q4_1", 32, 20}},       {6,  {"Q5_0", 32, 22}},      {7,  {"Q5_1", 32, 24}},
    {8,  {"Q8_0", 32, 34}},       {9,  {"Q8_1", 32, 40}},      {10, {"Q2_K", 256, 84}},
    {11, {"Q3_K", 256, 110}},     {12, {"Q4_K", 256, 144}},    {13, {"Q5_K", 256, 176}},
    {14, {"Q6_K", 256, 210}},     {15, {"Q8_K", 256, 292}},    {16, {"IQ2_XXS", 256, 66}},
    {17, {"IQ2_XS", 256, 74}},    {18, {"IQ3_XXS", 256, 98}},  {19, {"IQ1_S", 256, 50}},
    {20, {"IQ4_NL", 32, 18}},     {21, {"IQ3_S", 256, 110}},   {22, {"IQ2_S", 256, 82}},
    {23, {"IQ4_XS", 256, 136}},   {24, {"I8", 1, 1}},          {25, {"I16", 1, 2}},
    {26, {"I32", 1, 4}},          {27, {"I64", 1, 8}},         {28, {"F64", 1, 8}},
    {29, {"IQ1_M", 256, 56}},     {30, {"BF16", 1, 2}},        {34, {"TQ1_0", 256, 54}},
    {35, {"TQ2_0", 256, 66}},     {39, {"MXFP4", 32, 17}},     {40, {"NVFP4", 64, 36}},
};
// clang-format on

float HalfAt(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return Fp16ToFloat(bits);
}

/// Half of 2^(e - 127).
float HalvedPowerOfTwo(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (uint32_t{e} - 1) << 23);
}

/// 32 codes from 16 bytes: the low halves, then the high ones.
void Nibbles32(const uint8_t* packed, uint8_t* codes) {
  for (int i = 0; codes != nullptr && i < 16; ++i) {
    codes[i] = packed[i] & 15;
    codes[i + 16] = packed[i] >> 4;
  }
}

void FifthBits32(const uint8_t* packed, uint8_t* codes) {
  for (int i = 0; codes != nullptr && i < 32; ++i)
    codes[i] |= ((packed[i / 8] >> (i % 8)) & 1) << 4;
}

/// Eight 6-bit scales and eight 6-bit minima in 12 bytes: bytes 0-3 and 4-7 hold the first four of
/// each in their lower six bits; bytes 8-11 the lower halves of the last four, whose upper two bits
/// fill up bytes 0-7.
void ScalesAndMinima(const uint8_t* packed, uint8_t* scales, uint8_t* minima) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63;
    minima[i] = packed[i + 4] & 63;
    scales[i + 4] = (packed[i + 8] & 15) | ((packed[i] >> 6) << 4);
    minima[i + 4] = (packed[i + 8] >> 4) | ((packed[i + 4] >> 6) << 4);
  }
}

void DecodeSimple(GgmlType type, const uint8_t* block, const GgmlDecoded& out) {
  switch (type) {
    case GgmlType::kQ4_0:
    case GgmlType::kIQ4_NL:
      out.scales[0] = HalfAt(block);
      return Nibbles32(block + 2, out.codes);
    case GgmlType::kQ4_1:
      out.scales[0] = HalfAt(block);
      out.offsets[0] = HalfAt(block + 2);
      return Nibbles32(block + 4, out.codes);
    case GgmlType::kQ5_0:
      out.scales[0] = HalfAt(block);
      Nibbles32(block + 6, out.codes);
      return FifthBits32(block + 2, out.codes);
    case GgmlType::kQ5_1:
      out.scales[0] = HalfAt(block);
      out.offsets[0] = HalfAt(block + 2);
      Nibbles32(block + 8, out.codes);
      return FifthBits32(block + 4, out.codes);
    case GgmlType::kMXFP4:
      out.scales[0] = HalvedPowerOfTwo(block[0]);
      return Nibbles32(block + 1, out.codes);
    default:  // Q8_0
      out.scales[0] = HalfAt(block);
      for (int i = 0; out.codes != nullptr && i < 32; ++i)
        out.codes[i] = block[2 + i] ^ 0x80;  // int8 + 128
  }
}

/// 4-bit scales and minima [16], 2-bit codes [64], half scale, half minimum.
void DecodeQ2K(const uint8_t* block, const GgmlDecoded& out) {
  const float scale = HalfAt(block + 80);
  const float minimum = HalfAt(block + 82);
  for (int g = 0; g < 16; ++g) {
    out.scales[g] = scale * static_cast<float>(block[g] & 15);
    out.offsets[g] = -(minimum * static_cast<float>(block[g] >> 4));
  }
  for (int i = 0; out.codes != nullptr && i < kSuperBlock; ++i) {
    const uint8_t packed = block[16 + i / 128 * 32 + i % 32];
    out.codes[i] = (packed >> (i % 128 / 32 * 2)) & 3;
  }
}

/// Third bits [32], 2-bit codes [64], 6-bit scales [12], half scale.
void DecodeQ3K(const uint8_t* block, const GgmlDecoded& out) {
  const uint8_t* packed_scales = block + 96;
  const float scale = HalfAt(block + 108);
  for (int g = 0; g < 16; ++g) {
    const int low = (packed_scales[g % 8] >> (g / 8 * 4)) & 15;
    const int high = (packed_scales[8 + g % 4] >> (g / 4 * 2)) & 3;
    out.scales[g] = scale * static_cast<float>((low | (high << 4)) - 32);
  }
  for (int i = 0; out.codes != nullptr && i < kSuperBlock; ++i) {
    const int low = (block[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    const int high = (block[i % 32] >> (i / 32)) & 1;
    out.codes[i] = static_cast<uint8_t>(low | (high << 2));
  }
}

/// Half scale, half minimum, 6-bit scales and minima [12], for Q5_K fifth bits [32], then 4-bit
/// codes [128].
void DecodeQ45K(const uint8_t* block, bool five_bits, const GgmlDecoded& out) {
  uint8_t scales[8];
  uint8_t minima[8];
  ScalesAndMinima(block + 4, scales, minima);
  const float scale = HalfAt(block);
  const float minimum = HalfAt(block + 2);
  const uint8_t* codes = block + (five_bits ? 48 : 16);
  for (int g = 0; g < 8; ++g) {
    out.scales[g] = scale * static_cast<float>(scales[g]);
    out.offsets[g] = -(minimum * static_cast<float>(minima[g]));
    for (int i = 0; out.codes != nullptr && i < 32; ++i) {
      uint8_t code = (codes[g / 2 * 32 + i] >> (g % 2 * 4)) & 15;
      if (five_bits) code |= ((block[16 + i] >> g) & 1) << 4;
      out.codes[g * 32 + i] = code;
    }
  }
}

/// Lower four bits [128], upper two [64], int8 scales [16], half scale.
void DecodeQ6K(const uint8_t* block, const GgmlDecoded& out) {
  const float scale = HalfAt(block + 208);
  for (int g = 0; g < 16; ++g) {
    out.scales[g] = scale * static_cast<float>(static_cast<int8_t>(block[192 + g]));
  }
  for (int i = 0; out.codes != nullptr && i < kSuperBlock; ++i) {
    const int half = i / 128;
    const int low = (block[half * 64 + i % 64] >> (i % 128 / 64 * 4)) & 15;
    const int high = (block[128 + half * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    out.codes[i] = static_cast<uint8_t>(low | (high << 4));
  }
}

void DecodeBlock(GgmlType type, const uint8_t* block, const GgmlDecoded& out) {
  switch (type) {
    case GgmlType::kQ2_K:
      return DecodeQ2K(block, out);
    case GgmlType::kQ3_K:
      return DecodeQ3K(block, out);
    case GgmlType::kQ4_K:
      return DecodeQ45K(block, false, out);
    case GgmlType::kQ5_K:
      return DecodeQ45K(block, true, out);
    case GgmlType::kQ6_K:
      return DecodeQ6K(block, out);
    default:
      return DecodeSimple(type, block, out);
  }
}

void WidenPlain(GgmlType type, const std::byte* data, int64_t count, float* out) {
  if (type == GgmlType::kF32) {
    if (count > 0) std::memcpy(out, data, count * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, data + i * sizeof bits, sizeof bits);
    out[i] = type == GgmlType::kF16 ? Fp16ToFloat(bits) : Bf16ToFloat(bits);
  }
}

}  // namespace

const GgmlTypeInfo* FindGgmlType(uint32_t type) {
  for (const NumberedType& entry : kGgmlTypes) {
    if (entry.type == type) return &entry.info;
  }
  return nullptr;
}

std::string_view DecodedGgmlTypes() {
  return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, "
         "MXFP4";
}

bool IsDecodedGgmlType(GgmlType type) {
  return PlainGgmlType(type).has_value() || GgmlFormOf(type).has_value();
}

std::optional<DType> PlainGgmlType(GgmlType type) {
  if (type == GgmlType::kF32) return DType::kFloat32;
  if (type == GgmlType::kF16) return DType::kFloat16;
  if (type == GgmlType::kBF16) return DType::kBFloat16;
  return std::nullopt;
}

std::optional<GgmlForm> GgmlFormOf(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_0:
      return GgmlForm{.bits = 4, .center = 8};
    case GgmlType::kQ4_1:
    case GgmlType::kQ4_K:
      return GgmlForm{.bits = 4, .has_offset = true};
    case GgmlType::kQ5_0:
      return GgmlForm{.center = 16};
    case GgmlType::kQ5_1:
    case GgmlType::kQ5_K:
      return GgmlForm{.has_offset = true};
    case GgmlType::kQ8_0:
      return GgmlForm{.center = 128};
    case GgmlType::kQ2_K:
      return GgmlForm{.bits = 4, .group = 16, .has_offset = true};
    case GgmlType::kQ3_K:
      return GgmlForm{.bits = 4, .group = 16, .center = 4};
    case GgmlType::kQ6_K:
      return GgmlForm{.group = 16, .center = 32};
    case GgmlType::kIQ4_NL:
      return GgmlForm{.bits = 4, .book = kNonLinearBook};
    case GgmlType::kMXFP4:
      return GgmlForm{.bits = 4, .book = kMxfp4Book};
    default:
      return std::nullopt;
  }
}

int64_t GgmlRowBytes(GgmlType type, int64_t k) {
  const GgmlTypeInfo* info = FindGgmlType(static_cast<uint32_t>(type));
  CHECK(info != nullptr && k % info->block_size == 0);
  return k / info->block_size * info->block_bytes;
}

void DecodeGgmlRows(GgmlType type, const std::byte* data, int64_t num_rows, int64_t k,
                    const GgmlDecoded& out) {
  const std::optional<GgmlForm> form = GgmlFormOf(type);
  CHECK(form.has_value());
  const GgmlTypeInfo& info = *FindGgmlType(static_cast<uint32_t>(type));
  CHECK(k % info.block_size == 0);
  const int64_t num_blocks = num_rows * (k / info.block_size);
  const int64_t groups = info.block_size / form->group;
  const auto* block = reinterpret_cast<const uint8_t*>(data);
  float unused_scales[kSuperBlock / 16];
  float unused_offsets[kSuperBlock / 16];
  for (int64_t b = 0; b < num_blocks; ++b, block += info.block_bytes) {
    DecodeBlock(
        type, block,
        {out.codes != nullptr ? out.codes + b * info.block_size : nullptr,
         out.scales != nullptr ? out.scales + b * groups : unused_scales,
         out.offsets != nullptr && form->has_offset ? out.offsets + b * groups : unused_offsets});
  }
}

void DequantizeGgmlRows(GgmlType type, const std::byte* data, int64_t num_rows, int64_t k,
                        float* out) {
  if (PlainGgmlType(type)) return WidenPlain(type, data, num_rows * k, out);
  const std::optional<GgmlForm> form = GgmlFormOf(type);
  CHECK(form.has_value());
  const GgmlTypeInfo& info = *FindGgmlType(static_cast<uint32_t>(type));
  uint8_t codes[kSuperBlock];
  float scales[kSuperBlock / 16];
  float offsets[kSuperBlock / 16];
  const int64_t num_blocks = num_rows * k / info.block_size;
  for (int64_t b = 0; b < num_blocks; ++b, out += info.block_size) {
    DecodeBlock(type, reinterpret_cast<const uint8_t*>(data) + b * info.block_bytes,
                {codes, scales, offsets});
    for (int i = 0; i < info.block_size; ++i) {
      const float value = form->book.empty() ? static_cast<float>(int{codes[i]} - form->center)
                                             : form->book[codes[i]];
      out[i] = scales[i / form->group] * value;
      if (form->has_offset) out[i] += offsets[i / form->group];
    }
  }
}

}  // namespace penstock
