// Tokens per second of the model runner alone: prefill, and decode of 1 to 64 sequences. Prints
// JSON lines.
//   forward_bench DIR [auto|float32|bfloat16] [file|formula] [threads] [quantize] [packed cache]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "executor/load_model.h"
#include "executor/runner_driver.h"

namespace penstock {
namespace {

constexpr int32_t kPrefills[] = {512, 2048};
constexpr int32_t kContext = 128;  // positions before the decodes
constexpr int32_t kStep = 512;     // positions of a prompt in one step
constexpr int32_t kBatches[] = {1, 4, 16, 32};
constexpr int32_t kMaxBatch = 32;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<TokenId> Prompt(int32_t length, int32_t vocab, uint32_t seed) {
  std::vector<TokenId> ids;
  for (int32_t i = 0; i < length; ++i) {
    seed = seed * 1664525u + 1013904223u;
    ids.push_back(static_cast<TokenId>((seed >> 4) % static_cast<uint32_t>(vocab)));
  }
  return ids;
}

void Print(const std::string& name, int64_t tokens, std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "{\"name\": \"%s\", \"tok_per_s\": %.1f, \"ms\": %.3f, \"ms_best\": %.3f, \"runs\": %zu}\n",
      name.c_str(), static_cast<double>(tokens) / median, median * 1e3, seconds.front() * 1e3,
      seconds.size());
  std::fflush(stdout);
}

absl::Status Prefill(RunnerDriver& driver, int32_t vocab, int32_t length) {
  std::vector<double> seconds;
  const double start = Now();
  for (int run = 0; run < 20 && (run < 2 || Now() - start < 6); ++run) {
    DrivenSequence s = driver.Begin(Prompt(length, vocab, run + 1), false);
    const double begin = Now();
    for (int32_t done = 0; done < length; done += kStep)
      RETURN_IF_ERROR(driver.Step({{&s, std::min(kStep, length - done)}}));
    seconds.push_back(Now() - begin);
    driver.End(s);
  }
  Print(absl::StrCat("prefill ", length), length, seconds);
  return absl::OkStatus();
}

absl::Status Decode(RunnerDriver& driver, int32_t vocab, int32_t batch) {
  std::vector<DrivenSequence> sequences;
  for (int32_t i = 0; i < batch; ++i)
    sequences.push_back(driver.Begin(Prompt(kContext, vocab, i + 77), false));
  std::vector<RunnerDriver::Item> items;
  for (DrivenSequence& s : sequences) {
    RETURN_IF_ERROR(driver.Step({{&s, kContext}}));
    items.push_back({&s, 1});
  }
  std::vector<double> seconds;
  const double start = Now();
  for (int run = 0; run < 100 && (run < 5 || Now() - start < 3); ++run) {
    const double begin = Now();
    RETURN_IF_ERROR(driver.Step(items));
    seconds.push_back(Now() - begin);
  }
  for (DrivenSequence& s : sequences) driver.End(s);
  Print(absl::StrCat("decode ", batch), batch, seconds);
  return absl::OkStatus();
}

absl::Status Run(int argc, char** argv) {
  if (argc < 2)
    return absl::InvalidArgumentError(
        "usage: forward_bench DIR [dtype] [file|formula] [threads] [quantize] "
        "[packed cache]");
  const int threads =
      argc > 4 ? std::atoi(argv[4]) : static_cast<int>(std::thread::hardware_concurrency());
  WorkerPool pool(threads);
  LoadOptions load;
  load.model_dir = argv[1];
  load.weights = argc > 3 ? argv[3] : "file";
  load.quantize = argc > 5 ? argv[5] : "none";
  load.packed_cache = argc > 6 ? argv[6] : "";
  load.pool = &pool;
  const std::string asked = argc > 2 ? argv[2] : "auto";
  const double begin = Now();
  ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadModel(load));
  const double loaded = Now();
  RunnerOptions options;
  ASSIGN_OR_RETURN(options.dtype, ParseActivationDType(asked, model->auto_dtype));
  ASSIGN_OR_RETURN(options.kv_dtype,
                   ParseCacheDType("auto", asked == "auto" ? model->auto_kv_dtype : options.dtype));
  std::printf(
      "{\"name\": \"load\", \"ms\": %.1f, \"threads\": %d, \"device\": \"%s\", \"dtype\": \"%s\", "
      "\"kv_dtype\": \"%s\"}\n",
      (loaded - begin) * 1e3, threads, std::string(model->device->name()).c_str(),
      std::string(DTypeName(options.dtype)).c_str(),
      std::string(DTypeName(options.kv_dtype)).c_str());
  options.max_len = std::min(kPrefills[1] + 1, model->config.max_positions);
  options.num_slots = kMaxBatch;
  options.kv_bytes = int64_t{kMaxBatch} * 512 * CacheBytesPerToken(model->config, options.kv_dtype);
  options.kv_bytes += 4 * int64_t{kMaxBatch} * StateBytes(model->config);
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner,
                   ModelRunner::Make(model.get(), options));
  RunnerDriver driver(runner.get());
  for (const int32_t length : kPrefills) {
    if (length < options.max_len)
      RETURN_IF_ERROR(Prefill(driver, model->config.vocab_size, length));
  }
  for (const int32_t batch : kBatches)
    RETURN_IF_ERROR(Decode(driver, model->config.vocab_size, batch));
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  const absl::Status status = penstock::Run(argc, argv);
  if (!status.ok())
    std::fprintf(stderr, "forward_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
