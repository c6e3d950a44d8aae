// The table of the kernels as the including file's instruction set compiles them. Included by the
// kernels_*.cc only, once each.
// Owns nothing. Must not know processors.
// Threads: n/a.
#pragma once

#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace penstock {
namespace {

constexpr CpuKernels KernelsNamed(const char* name) {
  return {
      .name = name,
      .panel_rows = kPanelRows,
      .word_inputs = kWordInputs,
      .pack_panel = PackPanel,
      .bf16_products = kBf16Products,
      .gemm_panel = GemmPanel,
      .quantize_row = QuantizeRow,
      .attention_tile = AttentionTileAny,
      .rope_row = RopeRowAny,
      .norm_row = NormRowAny,
      .activation_row = ActivationRowAny,
      .add_scaled_row = AddScaledRow,
      .convert_row = ConvertRowAny,
      .delta_step = DeltaStep,
      .conv_step = ConvStep,
  };
}

}  // namespace
}  // namespace penstock
