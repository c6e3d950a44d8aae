#include "benchmarks/gpu/gpu_bench.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "benchmarks/gpu/ceilings.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

/// Of data sheets: GB/s, and dense bfloat16 TFLOP/s; int8 has twice as many.
struct DataSheet {
  const char* name;
  double memory_gbs;
  double products_tops;
};
constexpr DataSheet kDataSheets[] = {{"H200", 4800, 990},     {"H100 PCIe", 2000, 756},
                                     {"H100 NVL", 3900, 835}, {"H100", 3350, 990},
                                     {"A100", 2039, 312},     {"L40S", 864, 362}};

const DataSheet* SheetOf(const std::string& gpu) {
  for (const DataSheet& sheet : kDataSheets) {
    if (absl::StrContains(gpu, sheet.name)) return &sheet;
  }
  return nullptr;
}

constexpr double kLeastSampleUs = 200;  // so that the timers' own grain is small beside it

}  // namespace

GpuBench::GpuBench(std::unique_ptr<CudaStream> stream, WorkerPool* pool,
                   const BenchOptions& options)
    : options_(options), stream_(stream.get()) {
  CudaOptions cuda;
  cuda.pool = pool;
  cuda.determinism = options.determinism;
  device_ = std::make_unique<CudaDevice>(std::move(stream), cuda);
  stream_->Enqueue("timer", [&](cudaStream_t) {
    const cudaError_t error = cudaEventCreateWithFlags(&begin_, cudaEventDefault);
    return error != cudaSuccess ? error : cudaEventCreateWithFlags(&end_, cudaEventDefault);
  });
  if (!options_.output.empty()) file_ = std::fopen(options_.output.c_str(), "w");
  const cudaDeviceProp& gpu = stream_->properties();
  Print(absl::StrFormat(
      R"({"name": "machine", "gpu": "%s", "capability": "%d.%d", "multiprocessors": %d, "tiny": %s})",
      gpu.name, gpu.major, gpu.minor, gpu.multiProcessorCount, options_.tiny ? "true" : "false"));
}

GpuBench::~GpuBench() {
  if (begin_ != nullptr) cudaEventDestroy(begin_);
  if (end_ != nullptr) cudaEventDestroy(end_);
  if (file_ != nullptr) std::fclose(file_);
}

bool GpuBench::Wants(const std::string& name) const {
  return options_.only.empty() || absl::StrContains(name, options_.only);
}

bool GpuBench::WantsAny(const std::string& name, const std::string& format) const {
  const std::string row = absl::StrCat(name, "/", format, "/");
  return Wants(row) || absl::StartsWith(options_.only, row);
}

void GpuBench::Print(const std::string& line) {
  for (std::FILE* to : {stdout, file_}) {
    if (to == nullptr) continue;
    std::fprintf(to, "%s\n", line.c_str());
    std::fflush(to);  // a run that is cut off keeps what it has
  }
}

bool GpuBench::ok() {
  const absl::Status status = device_->Synchronize();
  if (!status.ok()) std::fprintf(stderr, "gpu_bench: %s\n", std::string(status.message()).c_str());
  return status.ok();
}

void* GpuBench::Room(size_t bytes) {
  absl::StatusOr<DeviceBuffer> buffer = device_->Allocate(bytes);
  if (!buffer.ok()) {
    std::fprintf(stderr, "gpu_bench: %s\n", std::string(buffer.status().message()).c_str());
    std::exit(1);
  }
  return room_.emplace_back(*std::move(buffer)).data();
}

std::vector<double> GpuBench::Time(const std::function<void(int)>& call) {
  int next = 0;
  const auto sample = [&](int calls) {
    stream_->Enqueue("timer", [&](cudaStream_t s) { return cudaEventRecord(begin_, s); });
    for (int i = 0; i < calls; ++i) call(next++);
    stream_->Enqueue("timer", [&](cudaStream_t s) { return cudaEventRecord(end_, s); });
    float ms = 0;
    stream_->Enqueue("timer", [&](cudaStream_t) {
      const cudaError_t error = cudaEventSynchronize(end_);
      return error != cudaSuccess ? error : cudaEventElapsedTime(&ms, begin_, end_);
    });
    return 1e3 * ms;
  };
  for (int i = 0; i < options_.warm_ups; ++i) sample(1);
  const double one = std::max(sample(1), 0.5);
  const int calls = std::clamp(static_cast<int>(kLeastSampleUs / one), 1, 100);
  std::vector<double> us;
  const auto begin = std::chrono::steady_clock::now();
  const auto spent = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  while (static_cast<int>(us.size()) < options_.samples &&
         (us.empty() || spent() < options_.seconds) && stream_->ok()) {
    us.push_back(sample(calls) / calls);
  }
  std::sort(us.begin(), us.end());
  return us;
}

void GpuBench::Measure(const std::string& name, const std::string& shape, const std::string& format,
                       const Work& work, const std::function<void(int)>& call) {
  if (!Wants(absl::StrCat(name, "/", format, "/", shape)) || !stream_->ok()) return;
  Report(name, shape, format, work, Time(call));
}

void GpuBench::Report(const std::string& name, const std::string& shape, const std::string& format,
                      const Work& work, const std::vector<double>& us) {
  if (us.empty() || !ok()) return;
  const double median = us[us.size() / 2];
  const auto share = [&](double gbs, double tops) {
    const double bound =
        std::max(gbs > 0 ? work.bytes / gbs / 1e3 : 0, tops > 0 ? work.operations / tops / 1e6 : 0);
    return bound > 0 && median > 0 ? absl::StrFormat("%.1f", 100 * bound / median) : "null";
  };
  const DataSheet* sheet = SheetOf(stream_->properties().name);
  const double of_sheet = sheet == nullptr ? 0 : sheet->products_tops * (work.integers ? 2 : 1);
  Print(absl::StrFormat(
      R"({"name": "%s", "shape": "%s", "format": "%s", "us_median": %.3f, "us_p10": %.3f, )"
      R"("us_p90": %.3f, "bytes": %.0f, "flops": %.0f, "gbs": %.1f, "tops": %.2f, )"
      R"("pct_of_limit": %s, "pct_of_measured_ceiling": %s, "runs": %d})",
      name, shape, format + options_.format_suffix, median, us[us.size() / 10],
      us[us.size() * 9 / 10], work.bytes, work.operations, work.bytes / median / 1e3,
      work.operations / median / 1e6, share(sheet == nullptr ? 0 : sheet->memory_gbs, of_sheet),
      share(read_gbs_, work.integers ? integers_tops_ : products_tops_), us.size()));
}

void GpuBench::MeasureCeilings() {
  const size_t bytes = options_.tiny ? size_t{1} << 16 : size_t{1} << 30;
  const int32_t sms = stream_->properties().multiProcessorCount;
  auto* a = RoomOf<uint32_t>(static_cast<int64_t>(bytes / 4));
  auto* b = RoomOf<uint32_t>(static_cast<int64_t>(bytes / 4));
  // Random data: buses and units that switch nothing run faster than they do in a model.
  std::vector<uint32_t> random(bytes / 4);
  uint32_t state = 1;
  for (uint32_t& word : random) word = state = state * 1664525u + 1013904223u;
  device_->CopyToDevice(a, random.data(), bytes);
  const auto best = [](const std::vector<double>& us) { return us.empty() ? 1e9 : us.front(); };
  const auto read = Time([&](int) {
    stream_->Enqueue("read",
                     [&](cudaStream_t s) { return LaunchReadAll(a, bytes, 4 * sms, b, s); });
  });
  const auto copy = Time([&](int) { device_->CopyOnDevice(b, a, bytes); });
  Work float_work, integer_work;
  const auto floats = TimeProducts(false, float_work);
  const auto integers = TimeProducts(true, integer_work);
  const double size = static_cast<double>(bytes);
  Report("ceiling/read", absl::StrCat(bytes), "uint4", {size, 0, false}, read);
  Report("ceiling/copy", absl::StrCat(bytes), "bytes", {2 * size, 0, false}, copy);
  Report("ceiling/mma", "m16n8k16", "bf16", float_work, floats);
  Report("ceiling/mma", "m16n8k32", "int8", integer_work, integers);
  read_gbs_ = size / best(read) / 1e3;
  products_tops_ = float_work.operations / best(floats) / 1e6;
  integers_tops_ = integer_work.operations / best(integers) / 1e6;
  ForgetRoom();
}

void GpuBench::MeasureCeiling(const std::string& name, const std::string& shape,
                              const std::string& format, const Work& work,
                              const std::function<void(int)>& call) {
  const std::vector<double> us = Time(call);
  Report(name, shape, format, work, us);
  if (!us.empty()) products_tops_ = std::max(products_tops_, work.operations / us.front() / 1e6);
}

std::vector<double> GpuBench::TimeProducts(bool integers, Work& work) {
  const int32_t ctas = 2 * stream_->properties().multiProcessorCount;
  const int32_t steps = options_.tiny ? 2 : 2000;
  const double mmas = double{1} * ctas * (kProductThreads / 32) * kProductsPerStep * steps;
  work.operations = mmas * 2 * 16 * 8 * (integers ? 32 : 16);
  work.integers = integers;
  auto* sums = RoomOf<float>(int64_t{ctas} * kProductThreads);
  return Time([&](int) {
    stream_->Enqueue(
        "products", [&](cudaStream_t s) { return LaunchProducts(ctas, steps, integers, sums, s); });
  });
}

void GpuBench::Soak(double seconds) {
  const BenchOptions options = options_;
  options_.seconds = std::min(1.0, seconds);
  options_.samples = 1 << 30;
  double spent = 0;
  for (int second = 1; spent < seconds && stream_->ok(); ++second) {
    const auto begin = std::chrono::steady_clock::now();
    Work work;
    const auto us = TimeProducts(true, work);
    Report("soak/mma", absl::StrCat("second ", second), "int8", work, us);
    ForgetRoom();
    spent += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  options_ = options;
}

void GpuBench::MeasureGaps() {
#if !defined(PENSTOCK_EMULATE)
  constexpr int kKernels = 288;  // nine of each of 32 layers
  for (const bool early : {false, true}) {
    if (early && stream_->properties().major < 9) continue;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    stream_->Enqueue("capture", [&](cudaStream_t s) {
      cudaError_t error = cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
      for (int i = 0; i < kKernels && error == cudaSuccess; ++i) error = LaunchNothing(early, s);
      const cudaError_t ended = cudaStreamEndCapture(s, &graph);
      if (error == cudaSuccess) error = ended;
      return error != cudaSuccess ? error : cudaGraphInstantiate(&ready, graph, 0);
    });
    Measure("gap/graph", absl::StrCat(kKernels, " kernels"), early ? "pdl" : "plain", {}, [&](int) {
      stream_->Enqueue("replay", [&](cudaStream_t s) { return cudaGraphLaunch(ready, s); });
    });
    if (ready != nullptr) cudaGraphExecDestroy(ready);
    if (graph != nullptr) cudaGraphDestroy(graph);
    Measure("gap/launches", absl::StrCat(kKernels, " kernels"), early ? "pdl" : "plain", {},
            [&](int) {
              stream_->Enqueue("launch", [&](cudaStream_t s) {
                for (int i = 1; i < kKernels; ++i) (void)LaunchNothing(early, s);
                return LaunchNothing(early, s);
              });
            });
  }
#endif
}

}  // namespace penstock::PENSTOCK_KERNELS
