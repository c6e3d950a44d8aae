// Errors that name the field at fault, and their way to the wire.
// Owns nothing. Must not know the wire's format.
// Threads: thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "penstock/service.h"

namespace penstock {

/// INVALID_ARGUMENT that carries the name of the field.
absl::Status InvalidField(std::string_view param, std::string_view message);
/// The field that a status names; empty: none.
std::string FieldOf(const absl::Status& status);
/// The same error of a field that the client knows as `param`.
absl::Status WithField(const absl::Status& status, std::string_view param);
CallError ToCallError(const absl::Status& status);
/// The table of the API: INVALID_ARGUMENT 400, UNAUTHENTICATED 401, ... 500 for what is not in it.
int HttpStatus(absl::StatusCode code);

}  // namespace penstock
