// Weights in codes of 4 or 8 bits, multiplied as numbers: a code less the center is exact in 16 bits,
// sums of a group are multiplied by its scale in float32, and offsets by the sums of x, which a
// product with ones gives.
// Owns nothing. Must not know how steps are walked.
// Threads: as gemm_skinny.cuh.
#pragma once

#include "kernels/gemm_skinny.cuh"

namespace penstock::PENSTOCK_KERNELS {

/// Four codes of 8 bits, stored less 128, as two pairs of elements.
struct TwoPairs {
  uint32_t first;
  uint32_t second;
};
__device__ inline TwoPairs PairsOfBytes(__nv_bfloat16, uint32_t codes, int32_t center) {
  constexpr float kMagic = 8388608.0f;  // 0x4b000000: the low byte counts ones
  const uint32_t u = codes ^ 0x80808080u;
  const float less = kMagic + static_cast<float>(center);
  const auto number = [&](uint32_t byte) {
    return __float_as_uint(
        __fsub_rn(__uint_as_float(__byte_perm(u, 0x4b000000u, 0x7540u | byte)), less));
  };
  return {__byte_perm(number(0), number(1), 0x7632u), __byte_perm(number(2), number(3), 0x7632u)};
}
__device__ inline TwoPairs PairsOfBytes(__half, uint32_t codes, int32_t center) {
  const uint32_t u = codes ^ 0x80808080u;
  const uint32_t less = (0x6400u + static_cast<uint32_t>(center)) * 0x10001u;  // 1024 + center
  return {SubtractPair(__half(), __byte_perm(u, 0x64646464u, 0x4140u), less),
          SubtractPair(__half(), __byte_perm(u, 0x64646464u, 0x4342u), less)};
}

/// The same of numbers in e4m3: their bits in place of an element's, and the exponents' difference.
__device__ inline uint32_t PairOfE4m3(__nv_bfloat16, uint32_t high_bytes) {
  const uint32_t bits = (high_bytes & 0x80008000u) | (high_bytes & 0x7f007f00u) >> 4;
  return MultiplyPair(__nv_bfloat16(), bits, 0x7b807b80u);  // 2^120
}
__device__ inline uint32_t PairOfE4m3(__half, uint32_t high_bytes) {
  const uint32_t bits = (high_bytes & 0x80008000u) | (high_bytes & 0x7f007f00u) >> 1;
  return MultiplyPair(__half(), bits, 0x5c005c00u);  // 2^8
}
template <class T>
__device__ TwoPairs PairsOfE4m3(T, uint32_t codes) {
  const uint32_t u = codes ^ 0x80808080u;
  return {PairOfE4m3(T(), __byte_perm(u, 0, 0x1404u)), PairOfE4m3(T(), __byte_perm(u, 0, 0x3424u))};
}

/// Nibbles i and i + 4 as a pair of elements.
__device__ inline uint32_t PairOfNibbles(__nv_bfloat16, uint32_t codes, int i, int32_t center) {
  const uint32_t less = (0x4300u + static_cast<uint32_t>(center)) * 0x10001u;  // 128 + center
  return SubtractPair(__nv_bfloat16(), (codes >> 4 * i & 0x000f000fu) | 0x43004300u, less);
}
__device__ inline uint32_t PairOfNibbles(__half, uint32_t codes, int i, int32_t center) {
  const uint32_t less = (0x6400u + static_cast<uint32_t>(center)) * 0x10001u;
  return SubtractPair(__half(), (codes >> 4 * i & 0x000f000fu) | 0x64006400u, less);
}

/// The same of numbers in e2m1, as PairOfE4m3 has it.
__device__ inline uint32_t PairOfE2m1(__nv_bfloat16, uint32_t codes, int i) {
  const uint32_t two = codes >> 4 * i & 0x000f000fu;
  const uint32_t bits = (two & 0x00080008u) << 12 | (two & 0x00070007u) << 6;
  return MultiplyPair(__nv_bfloat16(), bits, 0x7e807e80u);  // 2^126
}
__device__ inline uint32_t PairOfE2m1(__half, uint32_t codes, int i) {
  const uint32_t two = codes >> 4 * i & 0x000f000fu;
  const uint32_t bits = (two & 0x00080008u) << 12 | (two & 0x00070007u) << 9;
  return MultiplyPair(__half(), bits, 0x74007400u);  // 2^14
}

__device__ inline uint32_t OnesOf(__nv_bfloat16) { return 0x3f803f80u; }
__device__ inline uint32_t OnesOf(__half) { return 0x3c003c00u; }

/// Codes of kBits for 8 kColumns rows of x of type T.
template <class T, int kBits, bool kOffsets, int kColumns>
struct CodeTiles {
  struct Sums {
    float sums[kColumns][4];
  };
  static constexpr int kStepColumns = CodeLayout{kBits}.step_columns();
  static constexpr int kBlocks = kStepColumns / kMultiplied;
  static constexpr int kInputTiles = kStepColumns * static_cast<int>(sizeof(T)) / kStepBytes;
  static constexpr int kInputBytes = 8 * kColumns * kStepBytes;  // of a tile of inputs
  static constexpr int kInputsAt = kCodeBytes + kMostScaleBytes;
  static constexpr int kStageBytes = kInputsAt + kInputTiles * kInputBytes;
  static constexpr int kStages = 6 * kStageBytes <= 96 * 1024 ? 6 : 4;  // all fit 99 KB

  static __device__ void CopyWeights(const GemmArgs& a, const void* w, int32_t steps,
                                     unsigned char* stage, int32_t tile, int32_t step) {
    const int32_t bytes = a.layout.step_bytes();
    const auto* from =
        static_cast<const unsigned char*>(w) + (int64_t{tile} * steps + step) * bytes;
    for (int32_t i = threadIdx.x * kRowAlign; i < bytes; i += kGemmThreads * kRowAlign) {
      CpAsync<kRowAlign>(stage + i, from + i);
    }
  }
  template <class Rows>
  static __device__ void CopyInputs(const GemmArgs& a, const Rows& rows, unsigned char* stage,
                                    int32_t step) {
    constexpr int kSize = sizeof(T);
    for (int i = 0; i < kInputTiles; ++i) {
      CopyTile<8 * kColumns>(stage + kInputsAt + i * kInputBytes, a.x, a.x_stride * kSize, rows,
                             (int64_t{step} * kInputTiles + i) * kStepBytes, int64_t{a.k} * kSize);
    }
  }

  /// Fragments of x of 16 columns, in the order of the codes.
  static __device__ void LoadBlock(uint32_t (&b)[kColumns][2], const unsigned char* inputs,
                                   int block) {
    const unsigned char* tile = inputs + block / 4 * kInputBytes;
    if constexpr (kBits == 4) {
      LoadInputs(b, tile, block % 4);
    } else {
      const int lane = threadIdx.x % 32;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const int at = ChunkAt(8 * j + lane / 4, 2 * (block % 4) + lane % 4 / 2) + lane % 2 * 8;
        const uint2 two = *reinterpret_cast<const uint2*>(tile + at);
        b[j][0] = two.x;
        b[j][1] = two.y;
      }
    }
  }
  /// Fragments of the warp's rows of w: block `of_four` of those that `codes` holds.
  static __device__ void LoadCodes(uint32_t (&w)[4], const uint4& codes, int of_four,
                                   const CodeLayout& layout) {
    if constexpr (kBits == 4) {
      const uint32_t word =
          of_four < 2 ? (of_four == 0 ? codes.x : codes.y) : (of_four == 2 ? codes.z : codes.w);
      if (layout.floats) {
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = PairOfE2m1(T(), word, i);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = PairOfNibbles(T(), word, i, layout.center);
      }
    } else {
      const auto pairs = [&](uint32_t four) {
        return layout.floats ? PairsOfE4m3(T(), four) : PairsOfBytes(T(), four, layout.center);
      };
      const TwoPairs upper = pairs(of_four == 0 ? codes.x : codes.z);
      const TwoPairs lower = pairs(of_four == 0 ? codes.y : codes.w);
      w[0] = upper.first;
      w[1] = lower.first;
      w[2] = upper.second;
      w[3] = lower.second;
    }
  }

  /// Adds the sums of a group, times its scale, and the sums of x times its offset.
  static __device__ void AddGroup(const CodeLayout& layout, const unsigned char* stage, int group,
                                  const float (&part)[kColumns][4],
                                  const float (&inputs)[kColumns][4], Sums& s) {
    const int row = group * kTileRows + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    const unsigned char* scales = stage + kCodeBytes;
    const unsigned char* offsets = scales + layout.scales_bytes();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float scale =
          layout.group == 0 ? 1.0f : ScaleAt(layout.scale_kind, scales, row + 8 * half);
      const float offset = kOffsets ? ScaleAt(layout.offset_kind, offsets, row + 8 * half) : 0.0f;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          s.sums[j][i] = __fmaf_rn(part[j][i], scale, s.sums[j][i]);
          if (kOffsets) s.sums[j][i] = __fmaf_rn(inputs[j][i], offset, s.sums[j][i]);
        }
      }
    }
  }

  static __device__ void Multiply(const GemmArgs& a, const unsigned char* stage, Sums& s) {
    constexpr int kOfLoad = kBits == 4 ? 4 : 2;  // blocks that a lane loads together
    const CodeLayout& layout = a.layout;
    const int of_group =
        layout.group == 0 || layout.group > kStepColumns ? kBlocks : layout.group / kMultiplied;
    const unsigned char* codes =
        stage + threadIdx.x / 32 * kWarpCodeBytes + threadIdx.x % 32 * sizeof(uint4);
    float part[kColumns][4] = {};
    float inputs[kColumns][4] = {};
#pragma unroll 1
    for (int first = 0; first < kBlocks; first += kOfLoad) {
      const uint4 some = *reinterpret_cast<const uint4*>(codes + first / kOfLoad * 512);
#pragma unroll
      for (int i = 0; i < kOfLoad; ++i) {
        uint32_t w[4];
        uint32_t x[kColumns][2];
        LoadCodes(w, some, i, layout);
        LoadBlock(x, stage + kInputsAt, first + i);
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          WarpMma(T(), part[j], w, x[j]);
          if constexpr (kOffsets) {
            const uint32_t one = OnesOf(T());
            const uint32_t ones[4] = {one, one, one, one};
            WarpMma(T(), inputs[j], ones, x[j]);
          }
        }
        if ((first + i + 1) % of_group != 0) continue;
        AddGroup(layout, stage, (first + i) / of_group, part, inputs, s);
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
#pragma unroll
          for (int e = 0; e < 4; ++e) part[j][e] = inputs[j][e] = 0.0f;
        }
      }
    }
  }
};

inline GemmSplit SplitOfCodes(const GemmArgs& a) {
  return SplitGemm(a.n, a.layout.steps(a.k), a.work.at_once);
}

}  // namespace penstock::PENSTOCK_KERNELS
