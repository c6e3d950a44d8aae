#include "kernels/emulator/warp_ops.h"

#include <cstring>

#include "base/half.h"

namespace penstock::emulator {
namespace {

constexpr uint32_t kWholeWarp = 0xffffffff;

struct ShuffleInput {
  const void* value;
  size_t bytes;
  int from;
};

struct MatrixInput {
  const void* row;
  int count;
  bool transposed;
  Where where;
};

void ComputeMatrices(Lanes& lanes) {
  const auto input = [&](int lane) { return static_cast<const MatrixInput*>(lanes.in[lane]); };
  const int count = input(0)->count;
  const bool transposed = input(0)->transposed;
  uint16_t elements[4][8][8];
  for (int i = 0; i < count; ++i) {
    for (int r = 0; r < 8; ++r) {
      const MatrixInput& of = *input(8 * i + r);
      CheckReadOf(lanes.first_thread + 8 * i + r, of.row, 16, of.where);
      std::memcpy(elements[i][r], of.row, 16);
    }
  }
  for (int l = 0; l < 32; ++l) {
    auto* registers = static_cast<uint32_t*>(lanes.out[l]);
    const int row = l / 4;
    const int column = l % 4 * 2;
    for (int i = 0; i < count; ++i) {
      const auto& m = elements[i];
      const uint32_t low = transposed ? m[column][row] : m[row][column];
      const uint32_t high = transposed ? m[column + 1][row] : m[row][column + 1];
      registers[i] = low | high << 16;
    }
  }
}

struct MmaInput {
  const uint32_t* a;
  const uint32_t* b;
};

double Element(MmaType type, uint32_t pair, int which) {
  const auto bits = static_cast<uint16_t>(pair >> 16 * which);
  return type == MmaType::kBFloat16 ? Bf16ToFloat(bits) : Fp16ToFloat(bits);
}
int32_t ByteOf(uint32_t four, int which) { return static_cast<int8_t>(four >> 8 * which); }

/// Collects the fragments of all lanes, `kPer` elements a register, and adds the product to every d.
/// Products and sums are exact in Sum; one rounding to D follows.
template <int kDepth, int kPer, class Sum, class D, class Get>
void Multiply(Lanes& lanes, const Get& get) {
  Sum a[16][kDepth];
  Sum b[kDepth][8];
  for (int l = 0; l < 32; ++l) {
    const auto& in = *static_cast<const MmaInput*>(lanes.in[l]);
    const int g = l / 4;
    const int t = l % 4;
    for (int i = 0; i < kPer; ++i) {
      for (int r = 0; r < 4; ++r) {
        a[g + r % 2 * 8][t * kPer + i + r / 2 * (kDepth / 2)] = get(in.a[r], i);
      }
      for (int r = 0; r < 2; ++r) b[t * kPer + i + r * (kDepth / 2)][g] = get(in.b[r], i);
    }
  }
  for (int l = 0; l < 32; ++l) {
    auto* d = static_cast<D*>(lanes.out[l]);
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + i / 2 * 8;
      const int column = l % 4 * 2 + i % 2;
      Sum sum = d[i];
      for (int k = 0; k < kDepth; ++k) sum += a[row][k] * b[k][column];
      d[i] = static_cast<D>(sum);
    }
  }
}

void RequireWholeWarp(Where where) {
  if (FullMask() != kWholeWarp) Fail("needs the tensor cores in a part of a warp", where);
}

}  // namespace

void Shuffle(const char* what, uint32_t mask, const void* value, void* out, size_t bytes, int from,
             Where where) {
  const ShuffleInput input{value, bytes, from};
  Meet(
      what, mask & FullMask(), &input, out,
      [](Lanes& lanes) {
        for (int l = 0; l < 32; ++l) {
          if (lanes.in[l] == nullptr) continue;
          const auto& own = *static_cast<const ShuffleInput*>(lanes.in[l]);
          const auto* other = static_cast<const ShuffleInput*>(lanes.in[own.from]);
          if (other == nullptr) {
            std::memset(lanes.out[l], 0xff, own.bytes);
          } else {
            std::memcpy(lanes.out[l], other->value, own.bytes);
          }
        }
      },
      false, where);
}

uint32_t Ballot(const char* what, uint32_t mask, bool value, Where where) {
  uint32_t out = 0;
  Meet(
      what, mask & FullMask(), &value, &out,
      [](Lanes& lanes) {
        uint32_t votes = 0;
        for (int l = 0; l < 32; ++l) {
          if (lanes.in[l] != nullptr && *static_cast<const bool*>(lanes.in[l])) votes |= 1u << l;
        }
        for (void* to : lanes.out) {
          if (to != nullptr) *static_cast<uint32_t*>(to) = votes;
        }
      },
      false, where);
  return out;
}

void LoadMatrices(uint32_t* registers, const void* row, int count, bool transposed, Where where) {
  RequireWholeWarp(where);
  const MatrixInput input{row, count, transposed, where};
  Meet("ldmatrix", kWholeWarp, &input, registers, ComputeMatrices, false, where);
}

void Mma16816(MmaType type, float* d, const uint32_t* a, const uint32_t* b, Where where) {
  RequireWholeWarp(where);
  const MmaInput input{a, b};
  const auto compute = [](MmaType of) {
    return of == MmaType::kBFloat16 ? [](Lanes& lanes) {
      Multiply<16, 2, double, float>(lanes, [](uint32_t pair, int which) {
        return Element(MmaType::kBFloat16, pair, which);
      });
    } : [](Lanes& lanes) {
      Multiply<16, 2, double, float>(lanes, [](uint32_t pair, int which) {
        return Element(MmaType::kFloat16, pair, which);
      });
    };
  };
  Meet("mma", kWholeWarp, &input, d, compute(type), false, where);
}

void Mma16832(int32_t* d, const uint32_t* a, const uint32_t* b, Where where) {
  RequireWholeWarp(where);
  const MmaInput input{a, b};
  Meet(
      "mma", kWholeWarp, &input, d,
      [](Lanes& lanes) { Multiply<32, 4, int32_t, int32_t>(lanes, ByteOf); }, false, where);
}

}  // namespace penstock::emulator
