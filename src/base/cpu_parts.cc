#include "base/cpu_parts.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <numeric>
#include <utility>

namespace penstock {

namespace {

/// Whether a scope of it may sleep: what others do meanwhile is then none of its time.
bool MayWait(FrontPart part) { return part == FrontPart::kChain || part == FrontPart::kLimits; }

}  // namespace

// The thread's own clock is a system call of most of a microsecond, so it is read where a scope begins
// in which no other is, where that ends, and beside what may sleep. What went by in between is shared out
// by the wall clock.
struct CpuParts::Slot {
  explicit Slot(FrontPart own) : base(own), part(own) {
    pthread_getcpuclockid(pthread_self(), &clock);
    settled = Cpu();
    since = std::chrono::steady_clock::now();
  }
  double Cpu() const {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  }
  /// What went by since the last switch was of the part until here.
  FrontPart Switch(FrontPart to) {
    const std::lock_guard lock(mutex);
    Advance();
    if (part == base || to == base || MayWait(part) || MayWait(to)) Settle();
    return std::exchange(part, to);
  }
  Seconds UntilNow() {
    const std::lock_guard lock(mutex);
    Advance();
    Settle();
    return seconds;
  }
  void Advance() {
    const auto now = std::chrono::steady_clock::now();
    walls[static_cast<size_t>(part)] += std::chrono::duration<double>(now - since).count();
    since = now;
  }
  void Settle() {
    const double now = Cpu();
    const double spent = now - std::exchange(settled, now);
    const double wall = std::accumulate(walls.begin(), walls.end(), 0.0);
    for (size_t i = 0; i < walls.size() && wall > 0; ++i) seconds[i] += spent * walls[i] / wall;
    if (wall <= 0) seconds[static_cast<size_t>(part)] += spent;
    walls = {};
  }

  const FrontPart base;
  clockid_t clock{};
  std::mutex mutex;  // guards what follows
  FrontPart part;
  std::chrono::steady_clock::time_point since;  // of walls
  double settled = 0;                           // the thread's clock, of seconds
  Seconds walls{};                              // since then
  Seconds seconds{};
};

namespace {

void AddTo(CpuParts::Seconds& sums, const CpuParts::Seconds& more) {
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += more[i];
}

}  // namespace

thread_local CpuParts::Slot* CpuParts::own_ = nullptr;

CpuParts::Thread::Thread(CpuParts* parts, FrontPart base) : parts_(parts) {
  if (parts_ == nullptr) return;
  auto slot = std::make_shared<Slot>(base);
  own_ = slot.get();
  const std::lock_guard lock(parts_->mutex_);
  parts_->slots_.push_back(std::move(slot));
}

CpuParts::Thread::~Thread() {
  if (parts_ == nullptr) return;
  Slot* const slot = std::exchange(own_, nullptr);
  const std::lock_guard lock(parts_->mutex_);
  AddTo(parts_->ended_, slot->UntilNow());
  std::erase_if(parts_->slots_, [slot](const auto& other) { return other.get() == slot; });
}

CpuParts::Seconds CpuParts::Sums() const {
  const std::lock_guard lock(mutex_);  // a thread does not end while its clock is read
  Seconds sums = ended_;
  for (const std::shared_ptr<Slot>& slot : slots_) AddTo(sums, slot->UntilNow());
  return sums;
}

CpuPart::CpuPart(FrontPart part) : before_(part) {
  if (CpuParts::own_ != nullptr) before_ = CpuParts::own_->Switch(part);
}

CpuPart::~CpuPart() {
  if (CpuParts::own_ != nullptr) CpuParts::own_->Switch(before_);
}

}  // namespace penstock
