// The page of GET /metrics/lb: what a load balancer weighs, one sample of each series.
// Owns nothing. Must not know the catalogue: the page is made of the engines' load at the moment.
// Threads: thread-safe; cheap enough for an I/O thread.
#pragma once

#include <string>

#include "service/generation_service.h"

namespace penstock {

/// Prometheus text of nine series: counts are summed over models, of the use of KV caches and of
/// the predicted wait the largest, of last steps the latest.
std::string BalancerPage(const GenerationService& service);

}  // namespace penstock
