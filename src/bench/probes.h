// Golden probes: questions whose answers are held to what is expected of them.
// Owns nothing. Must not know engines or models.
// Threads: confined to the calling thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/regex.h"
#include "base/step_progress.h"
#include "bench/target.h"

namespace penstock {

/// What an answer is held to; the names are those of `check` in a file.
enum class ProbeCheck : uint8_t {
  kExact,      // exact: it is `answer`
  kRegex,      // regex: `answer` is found in it
  kJson,       // json: it is JSON; equal to that in `answer`, where there is one
  kChoice,     // choice: of `choices`, the first word of them that it has is `answer`
  kNll,        // nll<=X: `answer` after `prompt` costs at most X nats per token
  kTokenHash,  // token_hash: SHA-256 of its token ids is `answer`
};

struct Probe {
  std::string prompt;  // asked as a chat's only message; of nll, a text that `answer` continues
  int32_t max_tokens = 64;
  ProbeCheck check = ProbeCheck::kExact;
  std::string answer;
  std::vector<std::string> choices;
  double most_nll = 0;
  std::optional<Regex> regex;  // of kRegex
  std::string line;            // of the file
};

/// JSON lines. INVALID_ARGUMENT names file, line and key.
absl::StatusOr<std::vector<Probe>> ReadProbes(const std::string& path);
absl::Status WriteProbes(const std::string& path, const std::vector<Probe>& probes);

/// Why `content` is not what `probe` (exact, regex, json or choice) expects; "" where it is.
std::string JudgeAnswer(const Probe& probe, std::string_view content);

struct ProbeResult {
  int64_t num_probes = 0, num_passed = 0;
  std::string first_failure;  // in words; empty: none
};

/// Asks greedily. With `keep`, exact answers and hashes of tokens become those of now.
/// UNAVAILABLE: no answer, or not with what a check needs (log-probs of a prompt, token ids).
absl::StatusOr<ProbeResult> RunProbes(const Target& server, const std::string& model, bool keep,
                                      std::vector<Probe>& probes,
                                      const StepProgress& progress = {});

}  // namespace penstock
