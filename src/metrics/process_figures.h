// What the kernel says of this process.
// Owns nothing. Must not know metrics.
// Threads: thread-safe.
#pragma once

namespace penstock {

/// A figure that cannot be read is 0.
struct ProcessFigures {
  double cpu_seconds = 0;  // user and system, all threads
  double resident_bytes = 0;
  double virtual_bytes = 0;
  double open_fds = 0;
  double max_fds = 0;
  double start_time = 0;  // seconds since 1970
};

ProcessFigures ReadProcessFigures();

}  // namespace penstock
