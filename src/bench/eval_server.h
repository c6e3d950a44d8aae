// A server that is asked one greedy request after the other.
// Owns the target's address. Must not know what the answers are compared with.
// Threads: confined to the calling thread.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/target.h"

namespace penstock {

struct PredictedToken {
  std::string token;
  double logprob = 0;
  std::map<std::string, double> top;
  int64_t offset = -1;  // of its first character in the text; -1: not told
};

class EvalServer {
 public:
  /// An empty `model`: the first that the server lists.
  static absl::StatusOr<EvalServer> Open(const Target& target, const std::string& model);

  /// UNAVAILABLE: no answer, another status than 200, or no JSON object.
  absl::StatusOr<nlohmann::json> Post(const char* path, nlohmann::json body) const;
  /// What the server makes of each token of `text` but the first.
  absl::StatusOr<std::vector<PredictedToken>> Predict(const std::string& text, int32_t top) const;

  const Target& target() const { return target_; }

 private:
  explicit EvalServer(const Target& target) : target_(target) {}
  Target target_;
  TargetAddress address_;
  std::string model_;
};

}  // namespace penstock
