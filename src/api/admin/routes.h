// The routes of the admin listener, put into a router of their own.
// Owns nothing. Must not know sockets or how keys are kept.
// Threads: the endpoints are thread-safe; what takes long runs on the service's text workers.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "access/key_admin.h"
#include "api/http/router.h"
#include "ledger/usage_book.h"
#include "service/generation_service.h"

namespace penstock {

class AliasBook;

/// What operators work on; all of it outlives the router.
struct AdminParts {
  const KeyAdmin* keys = nullptr;      // null: /admin/v1/keys answers that there are none
  std::function<void()> keys_changed;  // after each change; may be null
};

/// /health, /ready, /metrics, /version, /admin/v1/keys, and adapters whatever lora.allow_runtime
/// says.
void AddAdminRoutes(Router& router, GenerationService& service, AdminParts parts);

/// What is kept beyond the process.
struct LedgerParts {
  std::string state_dir;             // empty: nothing is
  std::shared_ptr<UsageBook> usage;  // may be null
};

/// /admin/v1/usage and /admin/v1/usage/{tenant}.
void AddLedgerRoutes(Router& router, GenerationService& service, const LedgerParts& parts);

/// /admin/v1/aliases and what is below it. `book` null: aliases are the configuration's alone.
void AddAliasRoutes(Router& router, GenerationService& service, AliasBook* book);

/// What operators do to the whole server; both are thread-safe.
struct ServerControls {
  std::function<absl::Status()> reload;  // FAILED_PRECONDITION: only a restart can
  std::function<void()> drain;           // as SIGTERM
};

/// /admin/v1/config, /admin/v1/config/reload and /admin/v1/drain.
void AddServerRoutes(Router& router, GenerationService& service, ServerControls controls);

}  // namespace penstock
