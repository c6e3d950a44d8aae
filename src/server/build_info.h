// Which build of the program this is.
// Owns nothing. Must not know the domain.
// Threads: immutable.
#pragma once

#include <string>

namespace penstock {

/// The first 12 digits of the commit, with "-dirty" where files differed from it; "unknown" outside a
/// checkout.
const char* BuildCommit();
/// Version and commit.
std::string BuildName();

}  // namespace penstock
