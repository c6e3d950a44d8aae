#include "backend/cpu/kernels_table.h"

namespace penstock {

const CpuKernels& Avx512Bf16Kernels() {
  static constexpr CpuKernels kTable = KernelsNamed("avx512-bf16");
  return kTable;
}

}  // namespace penstock
