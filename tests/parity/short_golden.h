// A model against a part of its reference logits, for devices that take a second for what others do in
// a millisecond.
// Owns nothing. Must not know families.
// Threads: confined to one thread.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "executor/golden_check.h"
#include "parity/missing_device.h"

namespace penstock {

/// A part of a prompt, and ways of computing it beside `whole`.
struct ShortRun {
  size_t prompt, length, num_greedy;
  std::vector<std::string> ways;
};

/// The first positions of a prompt, and some of the tokens after all of it.
inline GoldenPrompt CutPrompt(const GoldenPrompt& prompt, const ShortRun& run) {
  GoldenPrompt cut;
  const size_t vocab = prompt.logits.size() / prompt.ids.size();
  cut.ids.assign(prompt.ids.begin(), prompt.ids.begin() + run.length);
  cut.logits.assign(prompt.logits.begin(), prompt.logits.begin() + run.length * vocab);
  cut.greedy.assign(prompt.greedy.begin(), prompt.greedy.begin() + run.num_greedy);
  cut.gap.assign(prompt.gap.begin(), prompt.gap.begin() + run.num_greedy);
  return cut;
}

/// The model of `load`, on a pool of its own, meets each part of golden.safetensors; skips where this
/// build has no such device.
inline void ExpectGoldenOf(LoadOptions load, const std::vector<ShortRun>& runs, DType dtype) {
  WorkerPool pool(2);
  load.pool = &pool;
  if (dtype == DType::kFloat16) load.dtype = "float16";
  const auto model = LoadModel(load);
  PENSTOCK_NEEDS_DEVICE(load.device, absl::IsUnavailable(model.status()), model.status());
  ASSERT_TRUE(model.ok()) << model.status();
  const auto prompts =
      LoadGolden(load.model_dir + "/golden.safetensors", (*model)->config.vocab_size);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  for (const ShortRun& run : runs) {
    const GoldenPrompt prompt = CutPrompt(prompts->at(run.prompt), run);
    const auto report = CheckGolden(model->get(), dtype, {prompt}, {}, run.ways);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->results.size(), 1 + run.ways.size());
    for (const GoldenResult& r : report->results) {
      EXPECT_TRUE(r.passed) << r.way << ": error " << r.error << ", greedy " << r.greedy_equal
                            << " of " << r.greedy_required << ", bits " << r.same_bits;
    }
    EXPECT_TRUE(report->passed) << "median " << report->median << ", 90th percentile "
                                << report->p90;
  }
}

}  // namespace penstock
