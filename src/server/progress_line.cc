#include "server/progress_line.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace penstock {

ProgressLine::ProgressLine(std::string name, bool quiet)
    : name_(std::move(name)), shown_(!quiet && isatty(STDERR_FILENO) == 1) {}

void ProgressLine::Show(int64_t done, int64_t total, const std::string& more) const {
  if (!shown_) return;
  constexpr int64_t kWidth = 24;
  const std::string bar(static_cast<size_t>(done * kWidth / std::max<int64_t>(1, total)), '#');
  std::fprintf(stderr, "\r\033[K%s [%-*s] %lld/%lld%s", name_.c_str(), static_cast<int>(kWidth),
               bar.c_str(), static_cast<long long>(done), static_cast<long long>(total),
               more.c_str());
  std::fflush(stderr);
}

void ProgressLine::Clear() const {
  if (shown_) std::fputs("\r\033[K", stderr);
}

}  // namespace penstock
