// The keys that clients may show.
// Owns nothing. Must not know how a protocol carries them.
// Threads: immutable.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace penstock {

class ApiKeys {
 public:
  /// `keys` outlive this. None: everyone may enter.
  explicit ApiKeys(absl::Span<const std::string> keys) : keys_(keys) {}
  bool open() const { return keys_.empty(); }
  /// `credential`: the key itself or "Bearer <key>". UNAUTHENTICATED for none or an unknown one.
  /// The time taken does not depend on where two keys differ.
  absl::Status Check(std::string_view credential) const;

 private:
  absl::Span<const std::string> keys_;
};

}  // namespace penstock
