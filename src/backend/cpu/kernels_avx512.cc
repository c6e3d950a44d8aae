#include "backend/cpu/attention_kernel.h"
#include "backend/cpu/gemm_kernel.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace penstock {

const CpuKernels& Avx512Kernels() {
  static constexpr CpuKernels kTable = {"avx512",      kPanelRows,       PackPanel,
                                        GemmPanel,     AttentionTileAny, RopeRowAny,
                                        RmsNormRowAny, GatedRowAny,      ConvertRowAny};
  return kTable;
}

}  // namespace penstock
