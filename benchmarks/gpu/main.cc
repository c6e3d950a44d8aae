// The GPU's operations beside what the same GPU can do at most, measured in the same run.
//   gpu_bench [--device N] [--output FILE] [--only PART-OF-A-NAME] [--seconds OF-A-ROW] [--tiny]
//     [--soak SECONDS: products of integers, a row for each second] [--format-suffix TEXT]
//     [--deterministic strict: our own kernels alone]
// Prints a line of JSON for each figure. Exits 4 where there is no GPU.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "benchmarks/gpu/gpu_bench.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

int Usage() {
  std::fprintf(stderr,
               "usage: gpu_bench [--device N] [--output FILE] [--only PART] [--seconds S] [--tiny] "
               "[--soak S] [--format-suffix TEXT] [--deterministic off|strict]\n");
  return 1;
}

int Run(int argc, char** argv) {
  BenchOptions options;
  int device = 0;
  double soak = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--tiny") {
      options.tiny = true;
      options.warm_ups = 1;
      options.samples = 2;
      continue;
    }
    if (name == "--help") return Usage();
    if (i + 1 == argc) return Usage();
    const char* value = argv[++i];
    if (name == "--device") {
      device = std::atoi(value);
    } else if (name == "--output") {
      options.output = value;
    } else if (name == "--only") {
      options.only = value;
    } else if (name == "--deterministic") {
      options.determinism =
          std::string(value) == "strict" ? Determinism::kStrict : Determinism::kOff;
    } else if (name == "--format-suffix") {
      options.format_suffix = value;
    } else if (name == "--seconds") {
      options.seconds = std::atof(value);
    } else if (name == "--soak") {
      soak = std::atof(value);
    } else {
      return Usage();
    }
  }
  absl::StatusOr<std::unique_ptr<CudaStream>> stream =
      CudaStream::Open("cuda:" + std::to_string(device), device);
  if (!stream.ok()) {
    std::fprintf(stderr, "gpu_bench: %s\n", std::string(stream.status().message()).c_str());
    return 4;
  }
  WorkerPool pool(static_cast<int>(std::thread::hardware_concurrency()));
  GpuBench bench(*std::move(stream), &pool, options);
  bench.MeasureCeilings();
  MeasureSquare(bench);
  bench.MeasureGaps();
  bench.Soak(soak);
  MeasureAttention(bench);
  MeasureRows(bench);
  MeasureSampling(bench);
  MeasureLibraryLinears(bench);
  MeasureLinears(bench);  // the host rounds weights for the last of them, which takes longest
  return bench.ok() ? 0 : 1;
}

}  // namespace
}  // namespace penstock::PENSTOCK_KERNELS

int main(int argc, char** argv) { return penstock::PENSTOCK_KERNELS::Run(argc, argv); }
