// How well a server's model predicts a text, and how far from another server's, by the log-probs that
// servers give for a prompt (`echo`).
// Owns nothing. Must not know engines or models.
// Threads: confined to the calling thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/step_progress.h"
#include "bench/target.h"

namespace penstock {

struct ServerQuality {
  int64_t num_predictions = 0;
  double perplexity = 0;
  double reference_perplexity = 0;  // all from here on 0 without a reference
  // Of KL(reference || server), nats. Servers tell the most likely tokens only; what both tell is
  // taken apart, the rest is one event: the true divergence is no less.
  double least_mean_kl = 0, least_p99_kl = 0;
  double same_top1 = 0;
};

struct ServerEvalOptions {
  std::string model, reference_model;  // empty: the first that a server lists
  int32_t window_bytes = 2048;         // of text in one request; its second half is predicted
  int64_t max_windows = 64;
  int32_t top = 5;  // log-probs per token that are asked for
};

/// `reference` may be null. INVALID_ARGUMENT: the text has no window, or the servers cut it into
/// different tokens. UNAVAILABLE: a server does not answer, or not with log-probs of the prompt.
/// `progress` counts windows.
absl::StatusOr<ServerQuality> EvaluateServer(const Target& server, const Target* reference,
                                             const std::string& text,
                                             const ServerEvalOptions& options,
                                             const StepProgress& progress = {});

}  // namespace penstock
