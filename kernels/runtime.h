// The CUDA runtime as the host side of kernels sees it: NVIDIA's, or the emulator's.
// Owns nothing. Must not know kernels.
// Threads: n/a.
#pragma once

#include "kernels/namespace.h"

#if defined(PENSTOCK_EMULATE)
#include "kernels/emulator/runtime_shim.h"
#else
#include <cuda_runtime_api.h>
#endif
