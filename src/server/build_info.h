// Which build of the program this is.
// Owns nothing. Must not know the domain.
// Threads: immutable.
#pragma once

#include <string>

namespace penstock {

/// Version and commit.
std::string BuildName();

}  // namespace penstock
