// What one route of the HTTP server counts, in the families that Python's web frameworks have.
// Owns nothing; the Catalogue owns the series. Must not know routes.
// Threads: thread-safe.
#pragma once

#include <array>

#include "absl/time/time.h"
#include "metrics/handles.h"

namespace penstock {

struct HttpRouteMetrics {
  std::array<CounterHandle, 4> requests;  // by the first digit of the status: 2xx to 5xx
  HistogramHandle seconds;
  HistogramHandle seconds_of_all;  // of every route together

  /// One request that has ended: answered with `status` (200 to 599), `time` after it began.
  void Count(int status, absl::Duration time) const;
  /// One that was refused before it was a request, and took no time that would tell anything.
  void CountUnread(int status) const;
};

}  // namespace penstock
