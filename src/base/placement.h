// Where threads run and where memory lies, on machines where that is worth saying.
// Owns nothing. Must not know what runs.
// Threads: thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

/// "0-3,8": CPUs in that order, each once. INVALID_ARGUMENT where the text is no such list or names
/// a CPU that this process may not use.
absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text);

/// The calling thread runs on this CPU only.
absl::Status PinThread(int cpu);

/// Pages that this thread and those that it starts touch first are spread over all NUMA nodes, so
/// that no node's memory has to feed every core. How many nodes there are; of one it changes
/// nothing. FAILED_PRECONDITION where the system forbids it.
absl::StatusOr<int> InterleaveMemory();

}  // namespace penstock
