// The page of GET /metrics, made four times a second at most however many ask.
// Owns the last page. Must not know HTTP, or what is on the page.
// Threads: thread-safe; whoever asks while it is made waits for it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "api/http/message.h"
#include "base/clock.h"

namespace penstock {

class MetricsPage {
 public:
  MetricsPage(std::function<std::string()> make, const Clock* clock)
      : make_(std::move(make)), clock_(*clock) {}
  /// At most a quarter of a second old.
  std::shared_ptr<const std::string> Get();
  /// Answers with it.
  void Respond(HttpExchange& exchange);

 private:
  const std::function<std::string()> make_;
  const Clock& clock_;
  std::mutex mutex_;  // guards the next two
  std::shared_ptr<const std::string> page_;
  absl::Time made_;
};

/// Of Prometheus' text format.
inline constexpr std::string_view kPrometheusText = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace penstock
