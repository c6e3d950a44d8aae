#include "backend/cpu/kernels_table.h"

namespace penstock {

const CpuKernels& Avx512Kernels() {
  static constexpr CpuKernels kTable = KernelsNamed("avx512");
  return kTable;
}

}  // namespace penstock
