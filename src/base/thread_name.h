// What a thread is called where people look at threads: top -H, debuggers, the dump of a stall.
// Owns nothing. Must not know what threads do.
// Threads: names the one that calls.
#pragma once

#include <pthread.h>

namespace penstock {

/// At most 15 bytes; longer ones name nothing.
inline void NameThread(const char* name) { pthread_setname_np(pthread_self(), name); }

}  // namespace penstock
