#include "executor/golden_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "executor/runner_driver.h"
#include "format/safetensors.h"

namespace penstock {
namespace {

constexpr int32_t kNumSnapshots = 64;
constexpr int32_t kMaxStepTokens = 512;
constexpr int32_t kNumStrangers = 3;
constexpr size_t kJudgedLength = 5;  // shorter prompts are not judged per position

template <class T>
absl::StatusOr<std::vector<T>> ReadArray(const Safetensors& file, const std::string& name,
                                         DType dtype) {
  const SafetensorsEntry* entry = file.Find(name);
  if (entry == nullptr || entry->dtype != dtype) {
    return absl::InvalidArgumentError(absl::StrCat(file.paths()[0], ": tensor \"", name,
                                                   "\" is missing or not ",
                                                   dtype == DType::kFloat32 ? "F32" : "I32"));
  }
  std::vector<T> out(entry->data.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), entry->data.data(), entry->data.size());
  return out;
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(q * static_cast<double>(values.size())))];
}

double Distance(const float* got, const float* expected, size_t n) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < n; ++i) {
    error += (double{got[i]} - expected[i]) * (double{got[i]} - expected[i]);
    norm += double{expected[i]} * expected[i];
  }
  const double distance = std::sqrt(error / norm);
  return std::isnan(distance) ? INFINITY : distance;
}

int32_t Longest(const std::vector<GoldenPrompt>& prompts) {
  size_t longest = 0;
  for (const GoldenPrompt& p : prompts) longest = std::max(longest, p.ids.size() + p.greedy.size());
  return static_cast<int32_t>(longest);
}

/// One prompt computed in one way; leaves logits and tokens in `out`.
using Way = std::function<absl::Status(RunnerDriver&, const GoldenPrompt&, DrivenSequence& out)>;

absl::Status RunChunked(RunnerDriver& driver, const GoldenPrompt& p, AdapterId adapter,
                        int32_t chunk, DrivenSequence& out) {
  out = driver.Begin(p.ids, true, adapter);
  RETURN_IF_ERROR(driver.Run(out, chunk, static_cast<int32_t>(p.greedy.size())));
  driver.End(out);
  return absl::OkStatus();
}

/// Prompt and decodes stand between strangers at every stage of theirs.
absl::Status RunBatched(RunnerDriver& driver, const GoldenPrompt& p, const GoldenAdapters& adapters,
                        DrivenSequence& out) {
  const auto length = static_cast<int32_t>(p.ids.size());
  std::vector<DrivenSequence> strangers;
  for (int32_t i = 0; i < kNumStrangers; ++i) {
    std::vector<TokenId> ids(p.ids.rbegin(), p.ids.rend());
    ids.resize(std::max<size_t>(1, ids.size() * (i + 1) / kNumStrangers));
    strangers.push_back(
        driver.Begin(ids, false, adapters.strangers[i % adapters.strangers.size()]));
  }
  RETURN_IF_ERROR(driver.Run(strangers[0], 5, 1));  // decoding by the time the prompt comes
  out = driver.Begin(p.ids, true, adapters.own);
  // Half a stranger, the prompt, a decode, another stranger.
  const int32_t half = std::max(1, strangers[1].num_prompt / 2);
  std::vector<RunnerDriver::Item> items = {{&strangers[1], half},
                                           {&out, length},
                                           {&strangers[0], 1},
                                           {&strangers[2], strangers[2].num_prompt}};
  if (half + length + 1 + strangers[2].num_prompt > kMaxStepTokens) items.resize(2);
  RETURN_IF_ERROR(driver.Step(items));
  const int32_t total = length + static_cast<int32_t>(p.greedy.size());
  while (static_cast<int32_t>(out.tokens.size()) < total) {
    items.clear();
    for (DrivenSequence& s : strangers) {
      if (static_cast<int32_t>(s.tokens.size()) < total) {
        items.push_back(
            {&s, std::min<int32_t>(9, static_cast<int32_t>(s.tokens.size()) - s.num_computed)});
      }
    }
    items.insert(items.begin() + items.size() / 2, {&out, 1});
    RETURN_IF_ERROR(driver.Step(items));
  }
  for (DrivenSequence& s : strangers) driver.End(s);
  driver.End(out);
  return absl::OkStatus();
}

/// The first blocks come from another sequence that has just computed them.
absl::Status RunPrefixHit(RunnerDriver& driver, const GoldenPrompt& p, AdapterId adapter,
                          int32_t block_size, DrivenSequence& out) {
  const int32_t shared = (static_cast<int32_t>(p.ids.size()) - 1) / block_size * block_size;
  DrivenSequence donor = driver.Begin(p.ids, true, adapter);
  // Chunks that do not end with the blocks, and at last one that does: recurrent layers leave a
  // snapshot there.
  while (donor.num_computed < shared) {
    RETURN_IF_ERROR(driver.Step({{&donor, std::min(11, shared - donor.num_computed)}}));
  }
  out = driver.Begin(p.ids, true, adapter);
  driver.SharePrefix(donor, shared, out);
  RETURN_IF_ERROR(driver.Run(out, kMaxStepTokens, static_cast<int32_t>(p.greedy.size())));
  driver.End(out, shared);
  driver.End(donor);
  return absl::OkStatus();
}

/// Preempted halfway through the prompt and again halfway through the continuation.
absl::Status RunPreempted(RunnerDriver& driver, const GoldenPrompt& p, AdapterId adapter,
                          DrivenSequence& out) {
  out = driver.Begin(p.ids, true, adapter);
  const auto length = static_cast<int32_t>(p.ids.size());
  const auto num_tokens = static_cast<int32_t>(p.greedy.size());
  if (length > 1) RETURN_IF_ERROR(driver.Step({{&out, length / 2}}));
  driver.Preempt(out);
  RETURN_IF_ERROR(driver.Run(out, kMaxStepTokens, num_tokens / 2));
  driver.Preempt(out);
  RETURN_IF_ERROR(driver.Run(out, 13, num_tokens));
  driver.End(out);
  return absl::OkStatus();
}

struct NamedWay {
  std::string name;
  Way run;
};

std::vector<NamedWay> Ways(int32_t block_size, const GoldenAdapters& adapters) {
  using Out = DrivenSequence;
  const AdapterId own = adapters.own;
  std::vector<NamedWay> ways;
  ways.push_back({"whole", [own](RunnerDriver& d, const GoldenPrompt& p, Out& out) {
                    return RunChunked(d, p, own, kMaxStepTokens, out);
                  }});
  for (const int32_t chunk : {1, 7, 16}) {
    ways.push_back({absl::StrCat("chunk", chunk),
                    [own, chunk](RunnerDriver& d, const GoldenPrompt& p, Out& out) {
                      return RunChunked(d, p, own, chunk, out);
                    }});
  }
  ways.push_back({"batched", [&adapters](RunnerDriver& d, const GoldenPrompt& p, Out& out) {
                    return RunBatched(d, p, adapters, out);
                  }});
  ways.push_back(
      {"prefix_hit", [own, block_size](RunnerDriver& d, const GoldenPrompt& p, Out& out) {
         return RunPrefixHit(d, p, own, block_size, out);
       }});
  ways.push_back({"preempted", [own](RunnerDriver& d, const GoldenPrompt& p, Out& out) {
                    return RunPreempted(d, p, own, out);
                  }});
  return ways;
}

/// Compares what a way computed with the reference; adds the positions' errors to `errors`.
void Judge(const GoldenPrompt& p, const DrivenSequence& got, const GoldenTolerance& tolerance,
           GoldenResult& r, std::vector<double>& errors) {
  const size_t n = p.ids.size();
  const size_t vocab = p.logits.size() / n;
  r.num_tokens = static_cast<int32_t>(n);
  r.error = Distance(got.logits.data(), p.logits.data(), p.logits.size());
  std::vector<double> positions(n);
  for (size_t i = 0; i < n; ++i)
    positions[i] = Distance(&got.logits[i * vocab], &p.logits[i * vocab], vocab);
  r.median = Quantile(positions, 0.5);
  r.p90 = Quantile(positions, 0.9);
  if (n >= kJudgedLength) errors.insert(errors.end(), positions.begin(), positions.end());
  while (r.greedy_required < static_cast<int32_t>(p.gap.size()) &&
         p.gap[r.greedy_required] >= tolerance.gap) {
    ++r.greedy_required;
  }
  while (r.greedy_equal < static_cast<int32_t>(p.greedy.size()) &&
         got.tokens[n + r.greedy_equal] == p.greedy[r.greedy_equal]) {
    ++r.greedy_equal;
  }
  const bool close = tolerance.median > 0 ? std::isfinite(r.error) : r.error <= tolerance.prompt;
  r.passed = close && r.error >= tolerance.at_least && r.greedy_equal >= r.greedy_required;
}

}  // namespace

absl::StatusOr<std::vector<GoldenPrompt>> LoadGolden(const std::string& path, int32_t vocab_size) {
  ASSIGN_OR_RETURN(const Safetensors file, Safetensors::OpenFile(path));
  std::vector<GoldenPrompt> prompts;
  while (file.Find(absl::StrCat("p", prompts.size(), ".ids")) != nullptr) {
    const std::string prefix = absl::StrCat("p", prompts.size(), ".");
    GoldenPrompt p;
    ASSIGN_OR_RETURN(p.ids, ReadArray<TokenId>(file, prefix + "ids", DType::kInt32));
    ASSIGN_OR_RETURN(p.logits, ReadArray<float>(file, prefix + "logits", DType::kFloat32));
    if (file.Find(prefix + "greedy") != nullptr) {
      ASSIGN_OR_RETURN(p.greedy, ReadArray<TokenId>(file, prefix + "greedy", DType::kInt32));
      ASSIGN_OR_RETURN(p.gap, ReadArray<float>(file, prefix + "gap", DType::kFloat32));
    }
    if (p.ids.empty() || p.logits.size() != p.ids.size() * vocab_size ||
        p.greedy.size() != p.gap.size()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": prompt ", prompts.size(), ": ",
                                                     p.logits.size(), " logits for ", p.ids.size(),
                                                     " tokens of a vocabulary of ", vocab_size));
    }
    prompts.push_back(std::move(p));
  }
  if (prompts.empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": no tensor \"p0.ids\""));
  return prompts;
}

GoldenTolerance GoldenTolerance::For(const ModelConfig& config, DType dtype) {
  GoldenTolerance t;
  if (dtype == DType::kFloat32) return t;
  t.at_least = 1e-4;
  if (dtype == DType::kFloat16) {  // three bits more than bfloat16
    t.gap = 0.05f;
    const bool flips = config.experts.num_experts > 0 || config.has_recurrent_layers();
    t.median = flips ? 3e-2 : 6e-3;
    t.p90 = flips ? 0 : 1.2e-2;
    return t;
  }
  t.gap = 0.3f;
  if (config.experts.num_experts > 0 || config.has_recurrent_layers()) {
    t.median = 1.5e-1;  // routers flip at near ties
    return t;
  }
  t.median = 4e-2;
  t.p90 = 8e-2;
  return t;
}

absl::StatusOr<GoldenReport> CheckGolden(LoadedModel* model, DType dtype,
                                         const std::vector<GoldenPrompt>& prompts,
                                         const GoldenAdapters& adapters,
                                         absl::Span<const std::string> only) {
  const ModelConfig& config = model->config;
  RunnerOptions options;
  options.dtype = dtype;
  options.kv_dtype = dtype;
  options.adapters = adapters.store;
  options.num_slots = kNumStrangers + 2;
  options.max_step_tokens = kMaxStepTokens;
  options.max_len = (Longest(prompts) + 63) / 16 * 16;
  options.max_len = std::min(options.max_len, config.context());
  options.kv_bytes = int64_t{options.num_slots + 1} * (options.max_len + kMaxStepTokens + 64) *
                     CacheBytesPerToken(config, dtype, static_cast<int32_t>(model->ranks.size()));
  options.kv_bytes += (2 * options.num_slots + kNumSnapshots) * StateBytes(config);
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner, ModelRunner::Make(model, options));
  RunnerDriver driver(runner.get());
  const GoldenTolerance tolerance = GoldenTolerance::For(config, dtype);
  std::vector<NamedWay> ways = Ways(options.block_size, adapters);
  std::erase_if(ways, [&](const NamedWay& way) {
    return !only.empty() && way.name != "whole" &&
           std::find(only.begin(), only.end(), way.name) == only.end();
  });

  GoldenReport report;
  report.passed = true;
  std::vector<double> errors;
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<float> whole;
    for (const NamedWay& way : ways) {
      DrivenSequence got;
      RETURN_IF_ERROR(way.run(driver, prompts[i], got));
      GoldenResult result;
      result.prompt = i;
      result.way = way.name;
      Judge(prompts[i], got, tolerance, result, errors);
      if (whole.empty()) whole = got.logits;
      result.same_bits =
          std::memcmp(whole.data(), got.logits.data(), whole.size() * sizeof(float)) == 0;
      result.passed = result.passed && result.same_bits;
      report.passed = report.passed && result.passed;
      report.results.push_back(std::move(result));
    }
  }
  report.median = Quantile(errors, 0.5);
  report.p90 = Quantile(errors, 0.9);
  if (tolerance.median > 0 && report.median > tolerance.median) report.passed = false;
  if (tolerance.p90 > 0 && report.p90 > tolerance.p90) report.passed = false;
  return report;
}

}  // namespace penstock
