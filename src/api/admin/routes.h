// The routes of the admin listener, put into a router of their own.
// Owns nothing. Must not know sockets or how keys are kept.
// Threads: the endpoints are thread-safe; what takes long runs on the service's text workers.
#pragma once

#include <functional>

#include "access/key_admin.h"
#include "api/http/router.h"
#include "service/generation_service.h"

namespace penstock {

/// What operators work on; all of it outlives the router.
struct AdminParts {
  const KeyAdmin* keys = nullptr;      // null: /admin/v1/keys answers that there are none
  std::function<void()> keys_changed;  // after each change; may be null
};

/// /health, /ready, /metrics, /version, /admin/v1/keys, and adapters whatever lora.allow_runtime
/// says. What else operators do is added to the same router by whoever owns it, with the
/// permission of production.md, section 8: /admin/v1/config by Permission::kConfig, /admin/v1/drain
/// by Permission::kOperate.
void AddAdminRoutes(Router& router, GenerationService& service, AdminParts parts);

}  // namespace penstock
