#include "backend/cpu/kernels_table.h"

namespace penstock {

const CpuKernels& Avx512VnniKernels() {
  static constexpr CpuKernels kTable = KernelsNamed("avx512-vnni");
  return kTable;
}

}  // namespace penstock
