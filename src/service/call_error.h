// Errors that name the field at fault, and their way to the wire.
// Owns nothing. Must not know the wire's format.
// Threads: thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "penstock/service.h"

namespace penstock {

/// INVALID_ARGUMENT that carries the name of the field. Both may hold text of the client's: they are
/// cut to what fits a message.
absl::Status InvalidField(std::string_view param, std::string_view message);
/// What a client named, short enough for messages and the log.
std::string Shown(std::string_view name, size_t max_bytes = 128);
/// Carries that its message has text of the client's beside what stands in quotation marks.
absl::Status WithClientsText(absl::Status status);
/// What the log may have of it: nothing that a client sent as content. Of what InvalidField made,
/// texts in quotation marks are left out; where more may be the client's, the field alone is said.
std::string LoggedError(const absl::Status& status);
/// The field that a status names; empty: none.
std::string FieldOf(const absl::Status& status);
/// The same error of a field that the client knows as `param`.
absl::Status WithField(const absl::Status& status, std::string_view param);
/// Carries how long the client should wait before it tries again.
absl::Status WithRetryAfter(absl::Status status, absl::Duration wait);
/// Whole seconds of at least one, as Retry-After has them; nullopt: nothing was said.
std::optional<int64_t> RetryAfterOf(const absl::Status& status);
/// Carries what is left of the tenant's limits; without that, LimitsOf knows of none.
absl::Status WithLimits(absl::Status status, const TenantState& state);
TenantState LimitsOf(const absl::Status& status);
CallError ToCallError(const absl::Status& status);
/// A server's failure, which another model might not have.
bool IsServerFailure(const CallError& error);
/// The table of the API: INVALID_ARGUMENT 400, UNAUTHENTICATED 401, ... 500 for what is not in it.
int HttpStatus(absl::StatusCode code);

}  // namespace penstock
