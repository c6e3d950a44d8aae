// Sends the spans of finished requests to a collector: OTLP over HTTP, as JSON.
// Owns a thread and a bounded queue; what does not fit is counted and forgotten. Must not know
// models or routes.
// Threads: thread-safe. Record never waits for the collector.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/live.h"
#include "metrics/catalogue.h"
#include "penstock/config.h"
#include "penstock/service.h"
#include "server/otlp_json.h"

namespace penstock {

class TraceLoop final : public RequestLog {
 public:
  /// To observe.otlp of the configuration at this moment; which requests are told, it says later.
  TraceLoop(const Live<ServerConfig>* config, std::string version, TraceMetrics metrics);
  /// Sends what is queued, for two seconds at most.
  ~TraceLoop() override;

  void Record(const RequestRecord& record) override;

 private:
  enum class Outcome : uint8_t { kTaken, kRefused, kLater };
  struct Answer {
    Outcome outcome = Outcome::kLater;
    int64_t rejected = 0;  // of the spans
    std::string error;     // empty: all were taken
  };

  void Run();
  std::vector<TracedRequest> NextBatch();
  void Deliver(const std::vector<TracedRequest>& batch);
  Answer Post(const std::string& body, int64_t spans) const;
  /// False: the server ends meanwhile.
  bool Pause(absl::Duration time);
  /// What a call may take now.
  absl::Duration TimeToSend() const;
  /// One line of the log when the collector begins to fail, and one when it works again.
  void Tell(const std::string& error);

  const Live<ServerConfig>& config_;
  const std::string url_;
  const TraceSource source_;
  const TraceMetrics metrics_;
  bool complained_ = false;  // the loop's thread only

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TracedRequest> queue_;  // guarded by mutex_, as are the next two
  bool stopping_ = false;
  absl::Time give_up_ = absl::InfiniteFuture();
  std::thread thread_;
};

}  // namespace penstock
