// Pages of the items of a kept response's input, as /v1/responses/{id}/input_items lists them.
// Owns nothing. Must not know where responses are kept.
// Threads: thread-safe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

/// Of `items`, the first of them first, what a raw query asks for: limit (20 unless said), order
/// (desc unless said), after (an item's id), include. An item without an id gets one by its place.
/// INVALID_ARGUMENT names the parameter.
absl::StatusOr<nlohmann::ordered_json> PageOfItems(const nlohmann::ordered_json& items,
                                                   std::string_view response_id,
                                                   std::string_view query);

}  // namespace penstock
