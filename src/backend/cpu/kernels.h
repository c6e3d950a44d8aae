// The table of SIMD kernels: one instance per instruction set, compiled from the same source.
// Owns nothing. Must not know tensors, threads or models: plain pointers and sizes.
// Threads: immutable; every kernel may run on any thread, on disjoint outputs.
#pragma once

#include <cstdint>

#include "penstock/backend.h"

namespace penstock {

constexpr int64_t kGemmDepth = 256;  // k per pass over a panel: its part stays in L1

constexpr int64_t kUnitBytes = 4;  // of a row's codes that lie side by side in a panel

/// Where column k of a row is: bits [shift, shift + bits) of the row's unit `unit`, little-endian.
/// A unit's bytes are columns 4 u + (0, 1, 2, 3); of 4 bits, their low halves are 8 u + (0, 1, 2,
/// 3) and the high halves the next four.
struct CodePlace {
  int64_t unit;
  int shift;
};
constexpr int64_t UnitColumns(int bits) { return bits == 4 ? 8 : 4; }
constexpr CodePlace PlaceOfCode(int bits, int64_t k) {
  const int within = static_cast<int>(k % UnitColumns(bits));
  return {k / UnitColumns(bits), within % 4 * 8 + within / 4 * 4};
}
constexpr int64_t CodeUnits(int bits, int64_t k) {
  return (k + UnitColumns(bits) - 1) / UnitColumns(bits);
}

/// A panel of codes; their meaning is in backend/quantized_rows.h.
struct CodePanel {
  const void* codes = nullptr;    // [CodeUnits(bits, k), panel_rows, kUnitBytes], see group_gap
  const void* scales = nullptr;   // scale_type [panel_rows] of group 0
  const void* offsets = nullptr;  // offset_type [panel_rows] of group 0; null: none
  int64_t scales_stride = 0;      // bytes from a group's to the next's
  int64_t offsets_stride = 0;
  int64_t group_gap = 0;  // bytes between the codes of two groups; 0 where units are not of one
  DType scale_type = DType::kFloat32;
  DType offset_type = DType::kFloat32;
  const float* book = nullptr;  // [16] or [256]; null: none
  int32_t center = 0;
  int64_t group = 1;
};

/// Rows of x as 8-bit integers, a scale per group of columns: x ~ scale * q. With s = amax / 127 of
/// a group, q = rint(x * (127 / amax)), ties to even; both 0 where 127 / amax overflows, and s is
/// NaN where an x is not finite.
struct QuantizedInput {
  const int8_t* q = nullptr;        // [m, stride]; columns [k, stride) are 0
  int64_t stride = 0;               // a multiple of 8, >= k
  const float* scales = nullptr;    // [m, num_groups]
  const int32_t* sums = nullptr;    // [m, num_groups] of q
  const int32_t* starts = nullptr;  // [m, num_groups]: -center * sums, of the codes' center
  int64_t num_groups = 0;
  const int16_t* words = nullptr;  // q again, at PlaceOfWord, where CpuKernels::word_inputs
};

/// One row of it.
struct QuantizeRowArgs {
  const float* x = nullptr;
  int64_t k = 0;
  int64_t group = 1;
  int8_t* q = nullptr;  // [stride]
  int64_t stride = 0;
  float* scales = nullptr;
  int32_t* sums = nullptr;
  int32_t* starts = nullptr;
  int32_t center = 0;
  int16_t* words = nullptr;  // null: none are wanted
};

/// Where column k of a row of words is: beside the other of its unit that lies in the same half of
/// the unit's 16-bit parts.
constexpr int64_t PlaceOfWord(int64_t k) { return k / 4 * 4 + k % 2 * 2 + k % 4 / 2; }

/// One panel (`panel_rows` outputs) of a linear layer for m rows. Each output is summed over k in
/// order; of a quantised input, group by group, exactly within one: with i = sum of q (code -
/// center), sum = fma(float(i) * x_scale, scale, sum), then fma(float(sum of q) * x_scale, offset,
/// sum).
struct GemmPanelArgs {
  WeightFormat format = WeightFormat::kFloat32;
  const float* x = nullptr;  // [m, k], stride x_stride
  int64_t x_stride = 0;
  const uint16_t* x_bf16 = nullptr;  // in place of x where not null: weights are bfloat16 too, and
                                     // the table has bf16_products
  int64_t x_bf16_stride = 0;
  int64_t m = 0;
  int64_t k = 0;
  const void* panel = nullptr;  // packed
  CodePanel codes;              // in place of `panel` where the format is of codes
  QuantizedInput input;      // in place of x where q is not null: `codes` has the same groups, of
                             // whole units, and no book
  float* weights = nullptr;  // scratch [kGemmDepth, panel_rows] for codes, 64-byte aligned
  float* sums = nullptr;     // scratch [m, panel_rows], 64-byte aligned
  const float* bias = nullptr;  // [n]; null: none
  float scale = 1.0f;
  float soft_cap = 0.0f;
  bool accumulate = false;
  bool bf16 = false;  // y is bfloat16, else float
  void* y = nullptr;  // [m, n], stride y_stride
  int64_t y_stride = 0;
  int64_t n = 0;  // outputs of this panel that exist, at most panel_rows
};

/// Positions whose scores move a row's maximum together where it sees all of them.
constexpr int kAttentionSpan = 64;

/// Consecutive positions of one sequence, the query heads that share one KV head.
struct AttentionTileArgs {
  bool bf16 = false;                // q and y, else float
  DType kv_type = DType::kFloat32;  // of the cache: float32, bfloat16 or int8
  bool bf16_products = false;  // of a cache that is not float32, where the table has them: q and
                               // the weights of values are rounded to bfloat16
  const void* q = nullptr;     // row 0, first head of the group; head h at + h * head_dim
  int64_t q_stride = 0;
  void* y = nullptr;
  int64_t y_stride = 0;
  int32_t num_rows = 0;
  int32_t group = 0;  // query heads
  int32_t head_dim = 0;
  int32_t position_begin = 0;   // of row 0
  const void* cache = nullptr;  // K of this KV head in block 0
  int64_t block_stride = 0;
  int64_t kv_stride = 0;
  int64_t scales_at = 0;  // as KvLayer has it
  int32_t block_size = 16;
  const BlockId* table = nullptr;
  float scale = 1.0f;
  float soft_cap = 0.0f;
  int32_t window = 0;
  int32_t visible = 0;           // > 0: every row sees positions [0, visible); 0: up to its own
  const float* sinks = nullptr;  // [group]; null: none
  float* scratch = nullptr;      // AttentionScratch(...) floats, 64-byte aligned
};

/// One token: all its heads.
struct RopeRowArgs {
  bool bf16 = false;
  DType kv_type = DType::kFloat32;
  void* qkv = nullptr;
  HeadShape heads;
  const float* q_norm = nullptr;
  const float* k_norm = nullptr;
  float norm_eps = 1e-6f;
  const float* cos_sin = nullptr;  // [2, rotary_dim / 2] of this position; null: no rotation
  int32_t rotary_dim = 0;
  int32_t rotary_begin = 0;
  bool v_norm = false;
  float q_scale = 1.0f;
  void* k_out = nullptr;     // KV head 0, this token, kCacheUnit apart; null: nothing is cached
  void* v_out = nullptr;     // null: keys alone, next to each other
  float* k_scale = nullptr;  // int8: of KV head 0, this token
  float* v_scale = nullptr;
  int64_t head_stride = 0;
};

/// One row of NormArgs.
struct NormRowArgs {
  bool bf16 = false;
  const void* x = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 1e-6f;
  bool center = false;
  bool accumulate = false;
  float scale = 1.0f;
  int64_t n = 0;
  void* y = nullptr;
};

/// One row of ActivationArgs.
struct ActivationRowArgs {
  bool bf16 = false;
  Activation f = Activation::kSilu;
  const void* gate = nullptr;
  const void* up = nullptr;
  float limit = 0;
  float alpha = 1;
  int64_t n = 0;
  void* y = nullptr;
};

/// One position of one value head of the gated delta rule, all float32.
struct DeltaStepArgs {
  const float* q = nullptr;  // [key_dim]
  const float* k = nullptr;  // [key_dim]
  const float* v = nullptr;  // [value_dim]
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  float decay = 1.0f;      // of the state
  float beta = 0.0f;       // of what is written
  float* state = nullptr;  // [key_dim, value_dim]
  float* delta = nullptr;  // scratch [value_dim]
  float* y = nullptr;      // [value_dim]
};

struct CpuKernels {
  const char* name = nullptr;
  int64_t panel_rows = 0;
  bool word_inputs = false;  // of codes of 8 bits
  /// rows x k weights, row-major at any alignment, into one panel of panel_rows x k (bfloat16: k
  /// rounded up to 2); missing rows are zero. Not for codes.
  void (*pack_panel)(WeightFormat format, const void* const* rows, int64_t num_rows, int64_t k,
                     void* panel);
  /// Takes bfloat16 inputs with bfloat16 weights; sums two columns a step, each in one rounding.
  bool bf16_products;
  void (*gemm_panel)(const GemmPanelArgs& args);
  void (*quantize_row)(const QuantizeRowArgs& args);
  void (*attention_tile)(const AttentionTileArgs& args);
  void (*rope_row)(const RopeRowArgs& args);
  void (*norm_row)(const NormRowArgs& args);
  void (*activation_row)(const ActivationRowArgs& args);
  /// y += weight * x, both float32 [n].
  void (*add_scaled_row)(const float* x, float weight, int64_t n, float* y);
  /// y = scale * x, or added to y, between float32, bfloat16 and float16 (source only).
  void (*convert_row)(DType from, const void* x, bool to_bf16, void* y, int64_t n, float scale,
                      bool accumulate);
  void (*delta_step)(const DeltaStepArgs& args);
  /// y[c] = silu(sum over t of window[t][c] conv[t][c]): one position of a causal convolution.
  void (*conv_step)(const float* const* window, int64_t width, const float* conv, int64_t channels,
                    float* y);
};

/// Floats of scratch that an attention tile needs.
constexpr int64_t AttentionScratch(int64_t num_rows, int64_t group, int64_t head_dim) {
  const int64_t padded = (head_dim + 15) / 16 * 16;
  return (2 * kAttentionSpan + 2 * num_rows * group) * padded + 2 * num_rows * group + 64;
}

const CpuKernels& Avx2Kernels();
const CpuKernels& AvxVnniKernels();     // only where CpuHasAvxVnni()
const CpuKernels& Avx512Kernels();      // only where CpuHasAvx512()
const CpuKernels& Avx512VnniKernels();  // only where CpuHasAvx512Vnni()
const CpuKernels& Avx512Bf16Kernels();  // only where CpuHasAvx512Bf16()

/// Compares a table with plain arithmetic; false where a result is off.
bool SelfTest(const CpuKernels& kernels);

}  // namespace penstock
