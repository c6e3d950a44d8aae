#include "server/gpu_loop.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>

#include "base/thread_name.h"

namespace penstock {

struct GpuLoop::State {
  std::mutex mutex;  // guards all of it
  std::condition_variable changed;
  int64_t asked = 0,
          answered = 0;  // numbers of questions: each is about all that were asked before
  bool late = false;     // somebody has given up waiting for the answer that is due
  bool stopping = false, ended = false;
  std::vector<GpuFigures> last;
};

GpuLoop::GpuLoop(Open open, std::function<void(const absl::Status&)> on_failure,
                 absl::Duration period)
    : state_(std::make_shared<State>()) {
  std::thread([state = state_, open = std::move(open), on_failure = std::move(on_failure), period] {
    NameThread("gpu");
    Run(state, open, on_failure, period);
    const std::lock_guard lock(state->mutex);
    state->ended = true;
    state->changed.notify_all();
  }).detach();
}

GpuLoop::~GpuLoop() {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->changed.notify_all();
  state_->changed.wait_for(lock, std::chrono::seconds(1), [this] { return state_->ended; });
}

void GpuLoop::Run(const std::shared_ptr<State>& state, const Open& open,
                  const std::function<void(const absl::Status&)>& on_failure,
                  absl::Duration period) {
  const absl::StatusOr<Read> read = open();
  std::unique_lock lock(state->mutex);
  if (!read.ok() && !state->stopping) on_failure(read.status());
  if (!read.ok()) return;
  while (true) {
    state->changed.wait_for(lock, absl::ToChronoNanoseconds(period),
                            [&] { return state->stopping || state->asked > state->answered; });
    if (state->stopping) return;
    const int64_t question = state->asked;
    lock.unlock();
    std::vector<GpuFigures> figures = (*read)();
    lock.lock();
    state->last = std::move(figures);
    state->answered = question;
    state->late = false;
    state->changed.notify_all();
  }
}

std::vector<GpuFigures> GpuLoop::Get(absl::Duration patience) {
  std::unique_lock lock(state_->mutex);
  const int64_t question = ++state_->asked;
  state_->changed.notify_all();
  const auto known = [&] { return state_->ended || state_->answered >= question; };
  if (!state_->late) state_->changed.wait_for(lock, absl::ToChronoNanoseconds(patience), known);
  if (state_->ended || state_->answered >= question) return state_->last;
  state_->late = true;
  std::vector<GpuFigures> gpus = state_->last;
  for (GpuFigures& gpu : gpus) {
    gpu.up = false;
    gpu.samples.clear();
  }
  return gpus;
}

}  // namespace penstock
