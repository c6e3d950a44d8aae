// What PEFT's adapter_config.json says of a low-rank adapter (LoRA, Hu et al. 2021): which modules
// it changes, by how much, with which rank.
// Owns its strings and compiled expressions. Must not know tensors or networks.
// Threads: immutable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/regex.h"

namespace penstock {

inline constexpr int32_t kMaxAdapterRank = 256;

class AdapterConfig {
 public:
  /// UNIMPLEMENTED names what is not supported, INVALID_ARGUMENT the key that is wrong; `what`
  /// begins either.
  static absl::StatusOr<AdapterConfig> Parse(std::string_view json, std::string_view what);

  /// `module` is a layer's full name without ".weight", in valid UTF-8; `layer` its block's index,
  /// or -1: it is the embedding or the head, which PEFT does not count to "all-linear".
  bool Targets(std::string_view module, int32_t layer) const;
  int32_t RankOf(std::string_view module) const;
  /// Of what the adapter adds: alpha / rank, or alpha / sqrt(rank).
  float ScalingOf(std::string_view module) const;
  /// Whether embedding and head share the factors of one of them where the model shares them.
  bool ties_weights() const { return ties_weights_; }

 private:
  /// Names, each a module's own or its end, or one expression that matches it whole.
  struct Modules {
    std::vector<std::string> names;
    std::vector<Regex> expressions;
    bool all = false;
    bool Has(std::string_view module) const;
  };
  /// (expression that matches a module's end, value), by name, as PEFT writes them.
  template <class T>
  using Patterns = std::vector<std::pair<Regex, T>>;
  class Reader;

  template <class T>
  static T Pick(const Patterns<T>& patterns, std::string_view module, T otherwise);

  int32_t rank_ = 0;
  double alpha_ = 0;
  bool rank_stabilized_ = false;
  bool ties_weights_ = false;
  Modules targets_, excluded_;
  std::vector<int32_t> layers_;  // empty: all
  Patterns<int32_t> ranks_;
  Patterns<double> alphas_;
};

}  // namespace penstock
