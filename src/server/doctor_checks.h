// What `penstock doctor` looks at: the machine and the files that a configuration depends on.
// Owns nothing. Must not know how the findings are printed.
// Threads: confined to the main thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/config.h"

namespace penstock {

enum class Finding : uint8_t {
  kOk,
  kWarning,  // serves, but somebody should look
  kFault,    // will not serve, or not as configured
  kUnknown,  // could not be found out here
};
std::string_view NameOf(Finding finding);

struct Diagnosis {
  std::string check;  // a word: certificates, disks, limits, clocks, cpu, memory, keys
  Finding finding = Finding::kOk;
  std::string text;  // one line
};

/// In the order of a page; a check that has nothing to look at is left out.
std::vector<Diagnosis> ExamineAll(const ServerConfig& config);

}  // namespace penstock
