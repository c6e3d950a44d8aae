#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace penstock {

const CpuKernels& Avx512Kernels() {
  static constexpr CpuKernels kTable = {
      .name = "avx512",
      .panel_rows = kPanelRows,
      .word_inputs = kWordInputs,
      .pack_panel = PackPanel,
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
  return kTable;
}

}  // namespace penstock
