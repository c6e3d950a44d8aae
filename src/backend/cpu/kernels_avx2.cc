#include "backend/cpu/kernels_table.h"

namespace penstock {

const CpuKernels& Avx2Kernels() {
  static constexpr CpuKernels kTable = KernelsNamed("avx2");
  return kTable;
}

}  // namespace penstock
