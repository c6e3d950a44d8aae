#include "executor/text_quality.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "executor/kv_cache.h"
#include "executor/runner_driver.h"

namespace penstock {
namespace {

constexpr int32_t kChunk = 128;  // tokens of a step: bounds the logits that are kept

/// A model ready to compute one window at a time.
class Predictor {
 public:
  static absl::StatusOr<std::unique_ptr<Predictor>> Make(const ModelUnderTest& of, int32_t window) {
    auto out = std::make_unique<Predictor>();
    RunnerOptions options;
    options.dtype = of.dtype;
    options.kv_dtype = of.kv_dtype;
    options.max_len = window + 1;
    options.num_slots = 1;
    options.kv_bytes = 4 * int64_t{window} * CacheBytesPerToken(of.model->config, of.kv_dtype) +
                       8 * StateBytes(of.model->config);
    ASSIGN_OR_RETURN(out->runner_, ModelRunner::Make(of.model, options));
    out->driver_ = std::make_unique<RunnerDriver>(out->runner_.get());
    return out;
  }

  /// Logits [ids, vocab].
  absl::StatusOr<std::vector<float>> Logits(absl::Span<const TokenId> ids) {
    DrivenSequence sequence = driver_->Begin(ids, true);
    RETURN_IF_ERROR(driver_->Run(sequence, kChunk, 1));
    driver_->End(sequence);
    return std::move(sequence.logits);
  }

 private:
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<RunnerDriver> driver_;
};

std::vector<double> LogProbabilities(absl::Span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(v - most);
  const double log_sum = most + std::log(sum);
  std::vector<double> out;
  out.reserve(logits.size());
  for (const float v : logits) out.push_back(v - log_sum);
  return out;
}

size_t Best(absl::Span<const double> values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

}  // namespace

absl::StatusOr<TextQuality> MeasureTextQuality(const ModelUnderTest& tested,
                                               const ModelUnderTest& reference,
                                               absl::Span<const TokenId> ids, int32_t window,
                                               const StepProgress& progress) {
  const int64_t vocab = tested.model->config.vocab_size;
  const bool compared = reference.model != nullptr;
  if (compared && reference.model->config.vocab_size != vocab) {
    return absl::InvalidArgumentError(
        absl::StrCat("the reference has ", reference.model->config.vocab_size,
                     " tokens in its vocabulary, the model has ", vocab));
  }
  const auto num_windows = static_cast<int64_t>(ids.size()) / window;
  if (num_windows == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the text has ", ids.size(), " tokens, expected at least one window of ", window));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Predictor> model, Predictor::Make(tested, window));
  std::unique_ptr<Predictor> other;
  if (compared) {
    ASSIGN_OR_RETURN(other, Predictor::Make(reference, window));
  }
  TextQuality out;
  double surprise = 0;
  double reference_surprise = 0;
  int64_t same = 0;
  std::vector<double> divergences;
  for (int64_t w = 0; w < num_windows; ++w) {
    if (progress) progress(w, num_windows);
    const auto part = ids.subspan(w * window, window);
    ASSIGN_OR_RETURN(const std::vector<float> logits, model->Logits(part));
    std::vector<float> expected;
    if (compared) {
      ASSIGN_OR_RETURN(expected, other->Logits(part));
    }
    for (int32_t i = window / 2; i + 1 < window; ++i) {
      const auto got = LogProbabilities(absl::MakeConstSpan(&logits[i * vocab], vocab));
      surprise -= got[part[i + 1]];
      ++out.num_predictions;
      if (!compared) continue;
      const auto wanted = LogProbabilities(absl::MakeConstSpan(&expected[i * vocab], vocab));
      reference_surprise -= wanted[part[i + 1]];
      double kl = 0;
      for (int64_t t = 0; t < vocab; ++t) kl += std::exp(wanted[t]) * (wanted[t] - got[t]);
      divergences.push_back(kl);
      same += Best(got) == Best(wanted) ? 1 : 0;
    }
  }
  const auto n = static_cast<double>(out.num_predictions);
  out.perplexity = std::exp(surprise / n);
  if (!compared) return out;
  out.reference_perplexity = std::exp(reference_surprise / n);
  for (const double kl : divergences) out.mean_kl += kl / n;
  const auto p99 = divergences.begin() + static_cast<int64_t>(0.99 * (n - 1));
  std::nth_element(divergences.begin(), p99, divergences.end());
  out.p99_kl = *p99;
  out.same_top1 = static_cast<double>(same) / n;
  return out;
}

}  // namespace penstock
