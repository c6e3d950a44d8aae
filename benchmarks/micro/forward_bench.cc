// Tokens per second of the model runner alone: prefill, and decode of several sequences. Prints
// JSON lines.
//   forward_bench DIR [auto|float32|bfloat16] [file|formula] [threads] [quantize] [packed cache]
//     [--device NAME] [--kv-dtype NAME] [--prefills 512,2048] [--batches 1,4,16,32] [--context 128]
//     [--step 512] [--seconds 3]
// Exits 4 where there is no such device.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "executor/load_model.h"
#include "executor/runner_driver.h"

namespace penstock {
namespace {

struct Options {
  std::vector<std::string> positional;
  std::string device = "cpu";
  std::string kv_dtype = "auto";
  std::vector<int32_t> prefills = {512, 2048};
  std::vector<int32_t> batches = {1, 4, 16, 32};
  int32_t context = 128;  // positions before the decodes
  int32_t step = 512;     // positions of a prompt in one step
  double seconds = 3;     // of a decode; of a prefill twice as long

  std::string at(size_t i, const std::string& otherwise) const {
    return i < positional.size() ? positional[i] : otherwise;
  }
};

absl::StatusOr<std::vector<int32_t>> ParseCounts(const std::string& list) {
  std::vector<int32_t> counts;
  for (const auto& one : absl::StrSplit(list, ',', absl::SkipEmpty())) {
    int32_t count = 0;
    if (!absl::SimpleAtoi(one, &count) || count < 1)
      return absl::InvalidArgumentError(absl::StrCat(list, ": expected numbers from 1 on"));
    counts.push_back(count);
  }
  return counts;
}

absl::StatusOr<Options> ParseOptions(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (!absl::StartsWith(name, "--")) {
      o.positional.push_back(name);
      continue;
    }
    if (name == "--help") break;
    if (++i == argc) return absl::InvalidArgumentError(absl::StrCat(name, ": expected a value"));
    const std::string value = argv[i];
    if (name == "--device") {
      o.device = value;
    } else if (name == "--kv-dtype") {
      o.kv_dtype = value;
    } else if (name == "--prefills") {
      ASSIGN_OR_RETURN(o.prefills, ParseCounts(value));
    } else if (name == "--batches") {
      ASSIGN_OR_RETURN(o.batches, ParseCounts(value));
    } else if (!(name == "--context" && absl::SimpleAtoi(value, &o.context) && o.context > 0) &&
               !(name == "--step" && absl::SimpleAtoi(value, &o.step) && o.step > 0) &&
               !(name == "--seconds" && absl::SimpleAtod(value, &o.seconds))) {
      return absl::InvalidArgumentError(absl::StrCat(name, " ", value, ": not understood"));
    }
  }
  if (o.positional.empty()) {
    return absl::InvalidArgumentError(
        "usage: forward_bench DIR [dtype] [file|formula] [threads] [quantize] [packed cache] "
        "[--device NAME] [--kv-dtype NAME] [--prefills N,N] [--batches N,N] [--context N] "
        "[--step N] [--seconds S]");
  }
  return o;
}

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

int32_t Most(const std::vector<int32_t>& counts) {
  return counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
}

absl::Status Prefill(RunnerDriver& driver, const Options& o, int32_t vocab, int32_t length) {
  std::vector<double> seconds;
  const double start = Now();
  for (int run = 0; run < 20 && (run < 2 || Now() - start < 2 * o.seconds); ++run) {
    DrivenSequence s = driver.Begin(Prompt(length, vocab, run + 1), false);
    const double begin = Now();
    for (int32_t done = 0; done < length; done += o.step)
      RETURN_IF_ERROR(driver.Step({{&s, std::min(o.step, length - done)}}));
    seconds.push_back(Now() - begin);
    driver.End(s);
  }
  Print(absl::StrCat("prefill ", length), length, seconds);
  return absl::OkStatus();
}

absl::Status Decode(RunnerDriver& driver, const Options& o, int32_t vocab, int32_t batch) {
  std::vector<DrivenSequence> sequences;
  for (int32_t i = 0; i < batch; ++i)
    sequences.push_back(driver.Begin(Prompt(o.context, vocab, i + 77), false));
  std::vector<RunnerDriver::Item> items;
  for (DrivenSequence& s : sequences) {
    for (int32_t done = 0; done < o.context; done += o.step)
      RETURN_IF_ERROR(driver.Step({{&s, std::min(o.step, o.context - done)}}));
    items.push_back({&s, 1});
  }
  std::vector<double> seconds;
  const double start = Now();
  for (int run = 0; run < 100 && (run < 5 || Now() - start < o.seconds); ++run) {
    const double begin = Now();
    RETURN_IF_ERROR(driver.Step(items));
    seconds.push_back(Now() - begin);
  }
  for (DrivenSequence& s : sequences) driver.End(s);
  Print(absl::StrCat("decode ", batch), batch, seconds);
  return absl::OkStatus();
}

absl::Status Run(int argc, char** argv) {
  ASSIGN_OR_RETURN(const Options o, ParseOptions(argc, argv));
  const int threads =
      std::atoi(o.at(3, std::to_string(std::thread::hardware_concurrency())).c_str());
  WorkerPool pool(threads);
  LoadOptions load;
  load.model_dir = o.at(0, "");
  load.device = o.device;
  load.weights = o.at(2, "file");
  load.quantize = o.at(4, "none");
  load.packed_cache = o.at(5, "");
  load.pool = &pool;
  const std::string asked = o.at(1, "auto");
  const double begin = Now();
  ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadModel(load));
  const double loaded = Now();
  RunnerOptions options;
  ASSIGN_OR_RETURN(options.dtype, ParseActivationDType(asked, model->auto_dtype));
  ASSIGN_OR_RETURN(
      options.kv_dtype,
      ParseCacheDType(o.kv_dtype, asked == "auto" ? model->auto_kv_dtype : options.dtype));
  std::printf(
      "{\"name\": \"load\", \"ms\": %.1f, \"threads\": %d, \"device\": \"%s\", \"dtype\": \"%s\", "
      "\"kv_dtype\": \"%s\"}\n",
      (loaded - begin) * 1e3, threads, std::string(model->device->name()).c_str(),
      std::string(DTypeName(options.dtype)).c_str(),
      std::string(DTypeName(options.kv_dtype)).c_str());
  const int32_t longest = std::max(o.context + 101, Most(o.prefills) + 1);
  options.max_len = std::min(longest, model->config.max_positions);
  options.num_slots = std::max(1, Most(o.batches));
  options.max_step_tokens = std::max(o.step, options.num_slots);
  const int64_t positions = std::max<int64_t>(int64_t{options.num_slots} * (o.context + 128),
                                              options.max_len + options.max_step_tokens);
  options.kv_bytes = (positions + 1024) * CacheBytesPerToken(model->config, options.kv_dtype);
  options.kv_bytes += 4 * int64_t{options.num_slots} * StateBytes(model->config);
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelRunner> runner,
                   ModelRunner::Make(model.get(), options));
  RunnerDriver driver(runner.get());
  for (const int32_t length : o.prefills) {
    if (length < options.max_len)
      RETURN_IF_ERROR(Prefill(driver, o, model->config.vocab_size, length));
  }
  for (const int32_t batch : o.batches)
    RETURN_IF_ERROR(Decode(driver, o, model->config.vocab_size, batch));
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  const absl::Status status = penstock::Run(argc, argv);
  if (!status.ok())
    std::fprintf(stderr, "forward_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : absl::IsUnavailable(status) ? 4 : 1;
}
