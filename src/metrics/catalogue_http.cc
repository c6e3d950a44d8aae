// The series of the HTTP server's routes.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "metrics/catalogue.h"

namespace penstock {
namespace {

// What probes and scrapers ask, as vLLM leaves it out.
constexpr std::string_view kUncountedHandlers[] = {"/health", "/ready", "/metrics", "/metrics/lb",
                                                   "/version"};
constexpr int kFirstClass = 2, kLastClass = 5;  // 2xx to 5xx

}  // namespace

void HttpRouteMetrics::CountUnread(int status) const {
  requests[static_cast<size_t>(std::clamp(status / 100, kFirstClass, kLastClass) - kFirstClass)]
      .Add();
}

void HttpRouteMetrics::Count(int status, absl::Duration time) const {
  CountUnread(status);
  const double elapsed = absl::ToDoubleSeconds(time);
  seconds.Observe(elapsed);
  seconds_of_all.Observe(elapsed);
}

HttpRouteMetrics Catalogue::MakeHttpRouteMetrics(const std::string& handler,
                                                 const std::string& method) {
  HttpRouteMetrics out;
  if (std::find(std::begin(kUncountedHandlers), std::end(kUncountedHandlers), handler) !=
      std::end(kUncountedHandlers))
    return out;
  for (int first = kFirstClass; first <= kLastClass; ++first) {
    out.requests[static_cast<size_t>(first - kFirstClass)] = MakeCounter(
        "http_requests_total",
        {{"handler", handler}, {"method", method}, {"status", absl::StrCat(first, "xx")}});
  }
  out.seconds =
      MakeHistogram("http_request_duration_seconds", {{"handler", handler}, {"method", method}});
  out.seconds_of_all = MakeHistogram("http_request_duration_highr_seconds", {});
  return out;
}

}  // namespace penstock
