// The part of the configuration that makes the chain: its description, and what no field can say.
// Owns nothing. Must not know links.
// Threads: any.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "config/schema.h"

namespace penstock {

ConfigSection DescribeGuard(GuardEntry& guard);
/// Names of the chain that need no entry in `guards`: kinds that work without settings.
bool IsPlainLink(std::string_view name);
/// Whether every name of the chain and of tenants' guards is known, and every guard has what its kind
/// needs.
absl::Status ValidateGuards(const ServerConfig& config);

inline constexpr std::string_view kTenantGuards = "tenant:guard";

}  // namespace penstock
