// A copy of the state file that is whole, made while servers go on writing.
// Owns nothing. Must not know what is in the tables, but for what tenants use.
// Threads: any; takes as long as the disk does.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace penstock {

/// Copies `state_dir`/state.db to the file `to`, which must not be there, with what the books of
/// usage beside it know by now, and checks the copy. After an error there is no copy. A server that
/// finds it as its state.db goes on from it.
absl::Status BackUpState(const std::string& state_dir, const std::string& to);

}  // namespace penstock
