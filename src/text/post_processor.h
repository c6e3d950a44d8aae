// What is put around the ids of a text: the "post_processor" of a tokenizer.json.
// Owns the ids it adds. Must not know text.
// Threads: immutable.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "penstock/types.h"

namespace penstock {

/// What is put around the ids of two texts.
struct PairTemplate {
  std::vector<TokenId> before;
  std::vector<TokenId> between;
  std::vector<TokenId> after;
  int32_t num_first_between = 0;  // ids of `between` that have type 0; -1: everything has
};

class PostProcessor {
 public:
  /// `before` and `after` surround the text.
  PostProcessor(std::vector<TokenId> before, std::vector<TokenId> after)
      : PostProcessor(before, after, PairTemplate{before, {}, after}) {}
  /// `pair`: why pairs are not supported, where they are not.
  PostProcessor(std::vector<TokenId> before, std::vector<TokenId> after,
                absl::StatusOr<PairTemplate> pair)
      : before_(std::move(before)), after_(std::move(after)), pair_(std::move(pair)) {}
  void Apply(std::vector<TokenId>* ids) const;
  /// The pair as one sequence; `second_begin`: its first position of type 1, 0: none.
  absl::StatusOr<std::vector<TokenId>> Join(absl::Span<const TokenId> first,
                                            absl::Span<const TokenId> second,
                                            int32_t* second_begin) const;

  const std::vector<TokenId>& before() const { return before_; }
  const std::vector<TokenId>& after() const { return after_; }
  const absl::StatusOr<PairTemplate>& pair() const { return pair_; }

 private:
  std::vector<TokenId> before_;
  std::vector<TokenId> after_;
  absl::StatusOr<PairTemplate> pair_;
};

/// INVALID_ARGUMENT for a malformed description, UNIMPLEMENTED (by name) for a type that is not
/// supported.
absl::StatusOr<PostProcessor> MakePostProcessor(const nlohmann::json& config);

}  // namespace penstock
