// What is put around the ids of a text: the "post_processor" of a tokenizer.json.
// Owns the ids it adds. Must not know text.
// Threads: immutable.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "absl/status/statusor.h"
#include "penstock/types.h"

namespace penstock {

class PostProcessor {
 public:
  /// `before` and `after` surround the text.
  PostProcessor(std::vector<TokenId> before, std::vector<TokenId> after)
      : before_(std::move(before)), after_(std::move(after)) {}
  void Apply(std::vector<TokenId>* ids) const;

  const std::vector<TokenId>& before() const { return before_; }
  const std::vector<TokenId>& after() const { return after_; }

 private:
  std::vector<TokenId> before_;
  std::vector<TokenId> after_;
};

/// INVALID_ARGUMENT for a malformed description, UNIMPLEMENTED (by name) for a type that is not
/// supported.
absl::StatusOr<PostProcessor> MakePostProcessor(const nlohmann::json& config);

}  // namespace penstock
