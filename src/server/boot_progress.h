// How far the loading of models is, for whoever asks whether the server is ready.
// Owns the figures. Must not know what loads.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "api/http/json_text.h"
#include "base/clock.h"

namespace penstock {

class BootProgress {
 public:
  explicit BootProgress(const Clock* clock) : clock_(clock), begun_(clock->Now()) {}

  /// A model begins: `index` of `count`, from 0.
  void Begin(const std::string& model, size_t index, size_t count) {
    std::lock_guard lock(mutex_);
    model_ = model;
    index_ = index;
    count_ = count;
    warming_ = false;
    done_ = total_ = 0;
    begun_ = clock_->Now();
  }
  void Set(int64_t done, int64_t total) {
    std::lock_guard lock(mutex_);
    done_ = done;
    total_ = total;
  }
  /// The model's weights are there; its first steps are made.
  void BeginWarmUp() {
    std::lock_guard lock(mutex_);
    warming_ = true;
  }
  /// {"status":"loading","phase":"weights","model":"chat","index":0,"models":2,"bytes":1,"total":2,
  /// "eta_s":3.5}; phase is weights or warm-up, bytes are of weights, eta_s is null where nothing
  /// can be said.
  std::string Json() const {
    std::lock_guard lock(mutex_);
    std::string out = absl::StrCat("{\"status\":\"loading\",\"phase\":\"",
                                   warming_ ? "warm-up" : "weights", "\",\"model\":");
    AppendJsonString(out, model_);
    absl::StrAppend(&out, ",\"index\":", index_, ",\"models\":", count_, ",\"bytes\":", done_,
                    ",\"total\":", total_, ",\"eta_s\":");
    if (done_ <= 0 || total_ <= 0 || warming_) return out + "null}";
    const double seconds = absl::ToDoubleSeconds(clock_->Now() - begun_);
    const double left = seconds * static_cast<double>(total_ - done_) / static_cast<double>(done_);
    absl::StrAppend(&out, absl::SixDigits(left), "}");
    return out;
  }

 private:
  const Clock* const clock_;
  mutable std::mutex mutex_;  // guards from here
  bool warming_ = false;
  std::string model_;
  size_t index_ = 0, count_ = 0;
  int64_t done_ = 0, total_ = 0;
  absl::Time begun_;
};

}  // namespace penstock
