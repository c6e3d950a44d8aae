#include "base/placement.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr int kMaxNumber = CPU_SETSIZE - 1;
constexpr int kMpolInterleave = 3;  // linux/mempolicy.h

absl::StatusOr<std::vector<int>> Numbers(std::string_view text) {
  const auto bad = [&](std::string_view part) {
    return absl::InvalidArgumentError(absl::StrCat("\"", ToAbsl(part), "\" in \"", ToAbsl(text),
                                                   "\": expected numbers from 0 to ", kMaxNumber,
                                                   " and ranges of them, as in 0-3,8"));
  };
  std::vector<int> out;
  for (const absl::string_view part : absl::StrSplit(ToAbsl(text), ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0;
    int last = 0;
    const bool range = part.find('-') != part.npos;
    if (!absl::SimpleAtoi(ends.first, &first) ||
        !absl::SimpleAtoi(range ? ends.second : ends.first, &last) || first < 0 || last < first ||
        last > kMaxNumber) {
      return bad({part.data(), part.size()});
    }
    for (int i = first; i <= last; ++i) {
      if (std::find(out.begin(), out.end(), i) != out.end()) return bad({part.data(), part.size()});
      out.push_back(i);
    }
  }
  return out;
}

std::string FirstLineOf(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text) {
  ASSIGN_OR_RETURN(std::vector<int> cpus, Numbers(text));
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return cpus;
  for (const int cpu : cpus) {
    if (!CPU_ISSET(cpu, &allowed))
      return absl::InvalidArgumentError(
          absl::StrCat("CPU ", cpu, " is not one that this process may use"));
  }
  return cpus;
}

absl::Status PinThread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof(set), &set) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("a thread cannot be put on CPU ", cpu, ": ", std::strerror(errno)));
}

absl::StatusOr<int> InterleaveMemory() {
  const auto nodes = Numbers(FirstLineOf("/sys/devices/system/node/has_memory"));
  if (!nodes.ok() || nodes->size() < 2) return 1;
  unsigned long mask[(kMaxNumber + 1) / (8 * sizeof(unsigned long))] = {};
  for (const int node : *nodes)
    mask[node / (8 * sizeof(mask[0]))] |= 1ul << (node % (8 * sizeof(mask[0])));
  if (::syscall(SYS_set_mempolicy, kMpolInterleave, mask, 8 * sizeof(mask)) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("memory cannot be spread over NUMA nodes: ", std::strerror(errno)));
  }
  return static_cast<int>(nodes->size());
}

}  // namespace penstock
