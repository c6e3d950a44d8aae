// Which sanitizer watches this program: compilers say it in ways of their own.
// Owns nothing. Must not know what is tested.
// Threads: n/a.
#pragma once

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define PENSTOCK_ADDRESS_SANITIZER
#endif
#if __has_feature(thread_sanitizer)
#define PENSTOCK_THREAD_SANITIZER
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define PENSTOCK_ADDRESS_SANITIZER
#endif
#ifdef __SANITIZE_THREAD__
#define PENSTOCK_THREAD_SANITIZER
#endif

namespace penstock {

#if defined(PENSTOCK_ADDRESS_SANITIZER) || defined(PENSTOCK_THREAD_SANITIZER)
inline constexpr bool kSanitized = true;  // programs are ten times as slow, and take more memory
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace penstock
