#include "base/cpu_parts.h"

#include <pthread.h>

#include <algorithm>
#include <ctime>
#include <utility>

namespace penstock {

struct CpuParts::Slot {
  explicit Slot(FrontPart base) : part(base) {
    pthread_getcpuclockid(pthread_self(), &clock);
    since = Now();
  }
  double Now() const {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  }
  /// What went by since the last switch was of the part until here.
  FrontPart Switch(FrontPart to) {
    const std::lock_guard lock(mutex);
    const double now = Now();
    seconds[static_cast<size_t>(part)] += now - since;
    since = now;
    return std::exchange(part, to);
  }

  clockid_t clock{};
  std::mutex mutex;  // guards what follows
  FrontPart part;
  double since = 0;
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
  slot->Switch(slot->part);
  const std::lock_guard lock(parts_->mutex_);
  AddTo(parts_->ended_, slot->seconds);
  std::erase_if(parts_->slots_, [slot](const auto& other) { return other.get() == slot; });
}

CpuParts::Seconds CpuParts::Sums() const {
  const std::lock_guard lock(mutex_);  // a thread does not end while its clock is read
  Seconds sums = ended_;
  for (const std::shared_ptr<Slot>& slot : slots_) {
    slot->Switch(slot->part);
    AddTo(sums, slot->seconds);
  }
  return sums;
}

CpuPart::CpuPart(FrontPart part) : before_(part) {
  if (CpuParts::own_ != nullptr) before_ = CpuParts::own_->Switch(part);
}

CpuPart::~CpuPart() {
  if (CpuParts::own_ != nullptr) CpuParts::own_->Switch(before_);
}

}  // namespace penstock
