// How far a command has come, for people who wait for it.
// Owns the last line of the terminal while it lives. Must not know what is done.
// Threads: main.
#pragma once

#include <cstdint>
#include <string>

#include "base/step_progress.h"

namespace penstock {

/// A line on standard error that is written over: name, bar, what is done. Nothing where that is no
/// terminal.
class ProgressLine {
 public:
  explicit ProgressLine(std::string name, bool quiet = false);
  ~ProgressLine() { Clear(); }
  ProgressLine(const ProgressLine&) = delete;

  /// `more` follows the numbers.
  void Show(int64_t done, int64_t total, const std::string& more = "") const;
  /// Before something is printed to standard output, which may be the same terminal.
  void Clear() const;
  StepProgress Steps() const {
    return [this](int64_t done, int64_t total) { Show(done, total); };
  }

 private:
  const std::string name_;
  const bool shown_;
};

}  // namespace penstock
