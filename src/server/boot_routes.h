// What the HTTP port answers while models load.
// Owns nothing. Must not know models.
// Threads: any.
#pragma once

#include "api/http/router.h"
#include "metrics/catalogue.h"
#include "server/boot_progress.h"

namespace penstock {

/// 503 to everything: /health and /ready say how far loading is, the rest that it is not done.
/// `progress` and `catalogue` outlive `router`.
/// /metrics is there, and says that the server is not ready.
void AddBootRoutes(Router& router, const BootProgress& progress, Catalogue* catalogue);

}  // namespace penstock
