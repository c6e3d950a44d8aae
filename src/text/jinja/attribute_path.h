// The "attribute" argument of filters: "user.name" or "items.0", looked up in an item.
// Owns its parts. Must not know filters.
// Threads: value.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "text/jinja/value.h"

namespace penstock::jinja {

class AttributePath {
 public:
  /// From text, where digits are positions, or any other key. None: the item itself.
  explicit AttributePath(const Value& attribute);
  /// Where a part is undefined, `absent` takes its place.
  absl::StatusOr<Value> Get(Value item, const std::optional<Value>& absent = std::nullopt) const;

 private:
  std::vector<Value> parts_;
};

/// Text in lower case, anything else as it is.
Value IgnoreCase(const Value& value);

}  // namespace penstock::jinja
