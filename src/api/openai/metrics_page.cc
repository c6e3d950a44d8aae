#include "api/openai/metrics_page.h"

#include <utility>

namespace penstock {

std::shared_ptr<const std::string> MetricsPage::Get() {
  constexpr absl::Duration kAge = absl::Milliseconds(250);
  std::lock_guard lock(mutex_);
  const absl::Time now = clock_.Now();
  if (page_ == nullptr || now - made_ >= kAge) {
    page_ = std::make_shared<const std::string>(make_());
    made_ = now;
  }
  return page_;
}

void MetricsPage::Respond(HttpExchange& exchange) {
  HttpResponse response;
  response.content_type = kPrometheusText;
  response.body = *Get();
  exchange.Respond(std::move(response));
}

}  // namespace penstock
