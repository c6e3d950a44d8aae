// The namespace of the kernels: they are compiled a second time, for the emulator, beside the first.
// Owns nothing. Must not know what is in it.
// Threads: n/a.
#pragma once

#if defined(PENSTOCK_EMULATE)
#define PENSTOCK_KERNELS kernels_emulated
#else
#define PENSTOCK_KERNELS kernels
#endif

/// Of functions that host and device call.
#if defined(__CUDACC__)
#define PENSTOCK_EVERYWHERE __host__ __device__
#else
#define PENSTOCK_EVERYWHERE
#endif
