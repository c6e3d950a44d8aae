// Where the threads of this process stand, for people who must find out why it stands still.
// Owns nothing. Must not know engines.
// Threads: thread-safe; one call at a time does its work.
#pragma once

#include <string>
#include <vector>

namespace penstock {

/// Threads that stand at the same place, in the same state.
struct StandingThreads {
  std::string threads;  // "id name", comma-separated
  std::string state;    // of the kernel: S sleeps, R runs, D waits for a device ..; where it waits
  std::string frames;   // functions, innermost first; "" where a thread did not answer in time
};

/// Interrupts each thread of this process in turn (SIGURG, at most two seconds in all) and has it
/// say by which calls it came where it stands. Functions of a stripped binary are "file+0x..",
/// which addr2line reads.
std::vector<StandingThreads> DescribeThreads();

}  // namespace penstock
