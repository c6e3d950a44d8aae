// The keys that clients may show.
// Owns the keys. Must not know how a protocol carries them.
// Threads: immutable.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace penstock {

class ApiKeys {
 public:
  /// No keys: everyone may enter.
  explicit ApiKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  bool open() const { return keys_.empty(); }
  /// `credential`: the key itself or "Bearer <key>". UNAUTHENTICATED for none or an unknown one.
  /// The time taken does not depend on where two keys differ.
  absl::Status Check(std::string_view credential) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace penstock
