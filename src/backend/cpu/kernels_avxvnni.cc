#include "backend/cpu/kernels_table.h"

namespace penstock {

const CpuKernels& AvxVnniKernels() {
  static constexpr CpuKernels kTable = KernelsNamed("avx2-vnni");
  return kTable;
}

}  // namespace penstock
