// Products of linear layers of every form, and rows beside them.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "backend/cuda/cublaslt.h"
#include "base/status_macros.h"
#include "benchmarks/gpu/gpu_bench.h"
#include "kernels/peer_launch.h"
#include "model/rounded_rows.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

struct Layer {
  const char* name;
  int64_t n, k;
  bool in_every_form;
};
constexpr Layer kLayers[] = {  // of Llama 3.1 8B
    {"qkv", 6144, 4096, true},
    {"o", 4096, 4096, true},
    {"gate_up", 28672, 4096, true},
    {"down", 4096, 14336, true},
    {"lm_head", 128256, 4096, false}};
constexpr Layer kTinyLayers[] = {{"o", 136, 128, true}, {"down", 64, 272, true}};
constexpr int64_t kRows[] = {1, 8, 16, 32, 64, 128, 512, 2048};
constexpr int64_t kLibraryRows[] = {1, 8, 16, 32, 64, 128, 512, 2048, 8192};
constexpr int64_t kTinyRows[] = {1, 70};
constexpr size_t kInTurn = size_t{128} << 20;  // of weights: more than an L2 cache holds

/// bfloat16 numbers of about 0.01, of both signs.
std::vector<uint16_t> Halves(int64_t size) {
  std::vector<uint16_t> out(size);
  uint32_t state = 9;
  for (uint16_t& h : out) {
    state = state * 1664525u + 1013904223u;
    h = static_cast<uint16_t>(0x3c00u | (state >> 16 & 0x80ffu));
  }
  return out;
}

PackedLinear CopyOf(GpuBench& bench, const PackedLinear& linear) {
  PackedLinear copy;
  copy.n = linear.n;
  copy.k = linear.k;
  copy.segments = linear.segments;
  absl::StatusOr<DeviceBuffer> weight = bench.device().Allocate(linear.weight.bytes());
  CHECK(weight.ok());
  copy.weight = *std::move(weight);
  bench.device().CopyOnDevice(copy.weight.data(), linear.weight.data(), linear.weight.bytes());
  return copy;
}

void MeasureLayer(GpuBench& bench, const Layer& layer, const std::string& form) {
  const std::vector<uint16_t> weights = Halves(layer.n * layer.k);
  const auto rule = ParseRoundingRule(form == "bf16" ? "none" : form);
  CHECK(rule.ok());
  const HostTensor plain{DType::kBFloat16, {layer.n, layer.k}, weights.data(), nullptr};
  LinearPart part{.weight = weights.data(), .rows = layer.n, .format = WeightFormat::kBFloat16};
  std::unique_ptr<RoundedRows> codes;
  const bool integers = form == "int8-channel";  // of weights and of inputs
  if (rule->bits != 0) {
    codes = std::make_unique<RoundedRows>(plain, *rule);
    part = {.rows = layer.n, .codes = codes.get(), .integer_input = integers};
  }
  absl::StatusOr<PackedLinear> packed = bench.device().Pack(layer.k, {part});
  CHECK(packed.ok());
  std::vector<PackedLinear> copies;
  copies.push_back(*std::move(packed));
  const size_t bytes = copies[0].weight.bytes();
  while (!bench.options().tiny && copies.size() * bytes < kInTurn)
    copies.push_back(CopyOf(bench, copies[0]));
  const auto all =
      bench.options().tiny ? absl::MakeConstSpan(kTinyRows) : absl::MakeConstSpan(kRows);
  const int64_t most = all.back();
  auto* x = bench.RoomOf<uint16_t>(most * layer.k);
  auto* y = bench.RoomOf<uint16_t>(most * layer.n);
  const std::vector<uint16_t> inputs = Halves(most * layer.k);
  bench.device().CopyToDevice(x, inputs.data(), inputs.size() * sizeof(uint16_t));
  for (const int64_t m : all) {
    const Tensor in{x, DType::kBFloat16, m, layer.k, layer.k};
    const Tensor out{y, DType::kBFloat16, m, layer.n, layer.n};
    const Work work{static_cast<double>(bytes) + 2.0 * static_cast<double>(m * (layer.k + layer.n)),
                    2.0 * static_cast<double>(m * layer.n * layer.k), integers};
    bench.Measure(absl::StrCat("linear/", layer.name),
                  absl::StrCat("m", m, " n", layer.n, " k", layer.k), form, work, [&](int i) {
                    const PackedLinear& w = copies[i % copies.size()];
                    bench.device().ops().Linear({.x = in, .w = &w, .y = out});
                  });
  }
  bench.ForgetRoom();
}

/// NVIDIA's library where there is one, on the same shapes: what our own kernels are to be held
/// against, also for few rows, where the server does not use it.
void MeasureLibrary(GpuBench& bench, const Layer& layer, CublasLt& library) {
  constexpr size_t kWorkspace = size_t{64} << 20;
  constexpr int kMostTried = 4;
  auto all =
      bench.options().tiny ? absl::MakeConstSpan(kTinyRows) : absl::MakeConstSpan(kLibraryRows);
  if (!layer.in_every_form) all.remove_suffix(1);  // of a head no step asks for so many
  const int64_t most = all.back();
  const auto weights = static_cast<int64_t>(
      std::max<size_t>(1, kInTurn / static_cast<size_t>(2 * layer.n * layer.k)));
  auto* w = bench.RoomOf<uint16_t>(weights * layer.n * layer.k);
  auto* x = bench.RoomOf<uint16_t>(most * layer.k);
  const std::vector<uint16_t> values = Halves(std::max(layer.n, most) * layer.k);
  bench.device().CopyToDevice(x, values.data(), most * layer.k * sizeof(uint16_t));
  for (int64_t i = 0; i < weights; ++i) {
    bench.device().CopyToDevice(w + i * layer.n * layer.k, values.data(),
                                layer.n * layer.k * sizeof(uint16_t));
  }
  GemmArgs g;
  g.x = x;
  g.x_stride = layer.k;
  g.y = bench.RoomOf<uint16_t>(most * layer.n);
  g.y_stride = layer.n;
  g.n = static_cast<int32_t>(layer.n);
  g.k = static_cast<int32_t>(layer.k);
  void* workspace = bench.Room(kWorkspace);
  for (const int64_t m : all) {
    g.m = static_cast<int32_t>(m);
    g.w = w;
    int tried = 0;
    for (const LibraryAlgorithm& algorithm : library.Candidates(g, kWorkspace, kMostTried)) {
      const double bytes = 2.0 * static_cast<double>(layer.n * layer.k + m * (layer.n + layer.k));
      bench.Measure(absl::StrCat("linear/", layer.name),
                    absl::StrCat("m", m, " n", layer.n, " k", layer.k),
                    absl::StrCat("bf16 cublasLt ", ++tried),
                    {bytes, 2.0 * static_cast<double>(m * layer.n * layer.k), false}, [&](int i) {
                      GemmArgs call = g;
                      call.w = w + i % weights * layer.n * layer.k;
                      bench.stream().Enqueue("cublasLt", [&](cudaStream_t stream) {
                        return library.Multiply(call, algorithm, workspace, kWorkspace, stream);
                      });
                    });
    }
  }
  bench.ForgetRoom();
}

/// One row operation on `rows` rows of `width`.
void MeasureRowsOf(GpuBench& bench, int64_t rows, int64_t width) {
  auto* x = bench.RoomOf<uint16_t>(rows * 2 * width);
  auto* y = bench.RoomOf<uint16_t>(rows * width);
  auto* weight = bench.RoomOf<float>(width);
  const std::vector<uint16_t> inputs = Halves(rows * 2 * width);
  bench.device().CopyToDevice(x, inputs.data(), inputs.size() * sizeof(uint16_t));
  const Tensor in{x, DType::kBFloat16, rows, width, width};
  const Tensor gate{x, DType::kBFloat16, rows, width, 2 * width};
  const Tensor up{x + width, DType::kBFloat16, rows, width, 2 * width};
  const Tensor out{y, DType::kBFloat16, rows, width, width};
  const std::string shape = absl::StrCat("m", rows, " n", width);
  const auto size = static_cast<double>(rows * width);
  Ops& ops = bench.device().ops();
  bench.Measure("rows/norm", shape, "bf16", {4 * size, 0, false},
                [&](int) { ops.Norm({.x = in, .weight = weight, .y = out}); });
  bench.Measure("rows/gated", shape, "bf16", {6 * size, 0, false},
                [&](int) { ops.Activate({.gate = gate, .up = up, .y = out}); });
  PeerReduceArgs sum;  // of two ranks that share the GPU
  sum.rows = bench.RoomOf<float>(rows * width);
  sum.count = rows * width;
  sum.size = 2;
  for (int r = 0; r < 2; ++r) sum.inputs[r] = bench.RoomOf<float>(rows * width);
  bench.Measure("rows/sum_over_ranks", shape, "f32", {12 * size, 0, false}, [&](int) {
    bench.stream().Enqueue("sum",
                           [&](cudaStream_t stream) { return LaunchPeerReduce(sum, stream); });
  });
  bench.ForgetRoom();
}

}  // namespace

void MeasureLinears(GpuBench& bench) {
  const auto layers =
      bench.options().tiny ? absl::MakeConstSpan(kTinyLayers) : absl::MakeConstSpan(kLayers);
  for (const char* form : {"bf16", "int8-channel", "int8", "int4-128"}) {
    for (const Layer& layer : layers) {
      const std::string row = absl::StrCat("linear/", layer.name);
      if ((layer.in_every_form || std::string_view(form) == "bf16") && bench.WantsAny(row, form))
        MeasureLayer(bench, layer, form);
    }
  }
}

void MeasureLibraryLinears(GpuBench& bench) {
  absl::StatusOr<std::unique_ptr<CublasLt>> library = CublasLt::Load(CublasLt::Places());
  if (!library.ok()) {
    std::fprintf(stderr, "cuBLASLt: %s\n", std::string(library.status().message()).c_str());
    return;
  }
  for (const Layer& layer : kLayers) {
    if (bench.WantsAny(absl::StrCat("linear/", layer.name), "bf16 cublasLt"))
      MeasureLibrary(bench, layer, **library);
  }
}

void MeasureSquare(GpuBench& bench) {
  const int64_t size = bench.options().tiny ? 80 : 8192;
  const std::vector<uint16_t> values = Halves(size * size);
  const LinearPart part{.weight = values.data(), .rows = size, .format = WeightFormat::kBFloat16};
  absl::StatusOr<PackedLinear> w = bench.device().Pack(size, {part});
  CHECK(w.ok());
  const Tensor in{bench.RoomOf<uint16_t>(size * size), DType::kBFloat16, size, size, size};
  const Tensor out{bench.RoomOf<uint16_t>(size * size), DType::kBFloat16, size, size, size};
  bench.device().CopyToDevice(in.data, values.data(), values.size() * sizeof(uint16_t));
  const auto edge = static_cast<double>(size);
  bench.MeasureCeiling("ceiling/linear", absl::StrCat("m", size, " n", size, " k", size), "bf16",
                       {6 * edge * edge, 2 * edge * edge * edge, false},
                       [&](int) { bench.device().ops().Linear({.x = in, .w = &*w, .y = out}); });
  bench.ForgetRoom();
}

void MeasureRows(GpuBench& bench) {
  if (bench.options().tiny) return MeasureRowsOf(bench, 3, 64);
  for (const int64_t rows : {1, 64, 2048}) MeasureRowsOf(bench, rows, 4096);
}

}  // namespace penstock::PENSTOCK_KERNELS
