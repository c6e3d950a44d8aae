// Of several candidates for each choice of an answer hands on the likeliest (best_of).
// Owns the candidates until the last of them has ended. Must not know engines or wires.
// Threads: as of a ResponseSink.
#pragma once

#include <memory>

#include "chain/gathered_answer.h"
#include "penstock/service.h"

namespace penstock {

struct BestOf {
  int32_t prompts = 1;
  int32_t candidates = 1;  // of each prompt; they lie side by side
  int32_t kept = 1;  // of these: the best by the mean log-probability of their tokens, best first
  bool with_tokens = true;  // the client wants them; candidates must have them
};

class BestOfSink final : public ResponseSink {
 public:
  BestOfSink(BestOf best, std::shared_ptr<ResponseSink> next);
  /// `start` speaks of the choices that are kept.
  void OnStart(ResponseStart start) override;
  void OnDeltas(absl::Span<Delta> deltas) override;
  void OnEnd(const ResponseEnd& end) override;

 private:
  const BestOf best_;
  const std::shared_ptr<ResponseSink> next_;
  /// The choices that are kept, once all candidates have ended.
  void HandOn();

  GatheredAnswer gathered_;
  int32_t num_ended_ = 0;
};

}  // namespace penstock
