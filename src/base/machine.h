// What this process may use: CPUs and memory, as the cgroup (version 1 or 2) and the affinity mask
// allow, and open files.
// Owns nothing. Must not know what they are used for.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace penstock {

/// CPUs: the least of cpu.max (rounded up), cpuset and affinity; at least 1.
int AllowedCpus();

/// Bytes: the least of memory.max and the machine's memory.
int64_t AllowedMemory();

/// To what the process may have: a shell's usual 1,024 files are fewer than a server has connections.
void RaiseFileLimit();

/// The same from a given root, for tests: `root` stands for /sys/fs/cgroup, `self` for the text of
/// /proc/self/cgroup.
int64_t CgroupMemoryLimit(const std::string& root, const std::string& self);  // INT64_MAX: none
double CgroupCpuLimit(const std::string& root, const std::string& self);  // CPUs; infinity: none

}  // namespace penstock
