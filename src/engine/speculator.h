// Proposes drafts: which tokens to guess after a sequence's next input, and whether they pay.
// Owns the history of outputs; each sequence owns its DraftState. Must not know
// blocks, slots or executors.
// Threads: confined to the engine thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/ngram_match.h"
#include "engine/step_costs.h"
#include "penstock/types.h"

namespace penstock {

struct SpeculationOptions {
  bool ngram = false;
  int32_t max_tokens = 8;  // drafts of one sequence in one step
  int32_t min_match = 3;   // tokens that must have stood somewhere before
  // Of those that decode: where so many have guesses in flight, the next step is planned when it is
  // known which were right, and not on the hope that all were.
  double most_unverified = 1.0 / 8;
  int64_t history = 1 << 15;  // outputs that are remembered, in tokens; a power of two
};

/// How often a match told the next token right, by its length: short, middling, long.
struct AgreementRates {
  std::array<double, 3> rates = {0.4, 0.6, 0.8};
  double Of(int32_t length) const { return rates[Class(length)]; }
  void Observe(int32_t length, bool right, double weight) {
    double& rate = rates[Class(length)];
    rate += weight * ((right ? 1.0 : 0.0) - rate);
  }
  static size_t Class(int32_t length) { return length < 6 ? 0 : length < 16 ? 1 : 2; }
};

/// What a sequence has to remember to be drafted for.
struct DraftState {
  Hash128 root;      // of its prefix hashes
  NgramIndex own;    // its own past
  NgramMatch other;  // in the history of outputs
  AgreementRates rates;
};

class Speculator {
 public:
  /// `costs` are those of steps that decode and do nothing else; it outlives this.
  Speculator(const SpeculationOptions& options, const StepCosts* costs)
      : options_(options), history_(options.min_match, options.history), costs_(costs) {}

  DraftState MakeState(const Hash128& root) const {
    return {root, NgramIndex(options_.min_match), {}, rates_};
  }
  /// A step is planned in which `num_decodes` sequences decode; `with_prompts`: and prompts take
  /// what else it can compute.
  void StartPlan(int32_t num_decodes, bool with_prompts);
  /// Guesses to follow the next input of a sequence that knows `tokens` and has `num_in_flight` more
  /// on the way: at most `room`, and none where they would cost more time than they save.
  std::vector<TokenId> Propose(absl::Span<const TokenId> tokens, int32_t num_prompt,
                               int32_t num_in_flight, int32_t room, DraftState& state);
  /// A sequence ends: what it put out may help others of its root.
  void Remember(const Hash128& root, absl::Span<const TokenId> tokens, int32_t num_prompt);

 private:
  struct Guess {
    TokenId token;
    double expected;  // drafts right up to and with this one, on average
    double chance;    // that it and all before it are right
  };
  bool CatchUp(absl::Span<const TokenId> tokens, int32_t num_prompt, DraftState& state);
  std::vector<Guess> GuessesAfter(absl::Span<const TokenId> tokens, int32_t num_in_flight,
                                  int32_t room, const DraftState& state) const;
  size_t NumThatPay(const std::vector<Guess>& guesses);
  static bool PrefersOwn(const DraftState& state) {
    return state.own.match().length > 0 && state.own.match().length >= state.other.length;
  }
  TokenId Predict(absl::Span<const TokenId> tokens, const DraftState& state, int32_t ahead) const;

  const SpeculationOptions options_;
  OutputHistory history_;
  const StepCosts* costs_;
  AgreementRates rates_;  // of all sequences: where a new one starts

  // The plan being made.
  int32_t rows_ = 0;     // decodes and drafts
  double expected_ = 0;  // tokens that these yield
  bool with_prompts_ = false;
  bool rests_ = false;  // no drafts, so that the cost of a step without them stays known
  bool drafted_ = false;
  bool refused_ = false;     // likely drafts were too dear
  bool probes_ = false;      // dear or not: what they cost may have changed
  int32_t num_drafted_ = 0;  // plans since the last rest
  int32_t num_refused_ = 0;  // plans since the last probe
  int32_t probe_interval_ = 64;
};

}  // namespace penstock
