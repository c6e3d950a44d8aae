#include "measure/kernel_figures.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/regex.h"
#include "base/status_macros.h"
#include "model/rounded_rows.h"

namespace penstock {
namespace {

constexpr int64_t kLeastCalls = 5;

/// Of so many bytes little is in the caches when they are read again, one after the other: caches keep
/// some of what is larger than they are.
size_t BeyondCaches() {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);  // NOLINT(runtime/int): as it has it
  return std::clamp(10 * static_cast<size_t>(std::max(0L, cache)), size_t{256} << 20,
                    size_t{1} << 30);
}

/// Weights that are neither zero nor all alike.
std::vector<uint16_t> Halves(int64_t size) {
  std::vector<uint16_t> out(size);
  uint32_t state = 9;
  for (uint16_t& h : out) {
    state = state * 1664525u + 1013904223u;
    h = static_cast<uint16_t>(0x3c00u | (state >> 16 & 0x80ffu));  // bfloat16 of about 0.01
  }
  return out;
}

struct Shape {
  const char* name;
  int64_t n, k;
};
constexpr Shape kShapes[] = {  // of Qwen2.5-0.5B
    {"qkv", 1152, 896},
    {"o", 896, 896},
    {"gate_up", 9728, 896},
    {"down", 896, 4864}};

struct AttentionCase {
  int32_t sequences, rows, context;
};

KernelFigure TimeCalls(double seconds, const std::function<void()>& call) {
  using SteadyClock = std::chrono::steady_clock;
  call();  // what is first touched, and the choices of a first time
  std::vector<double> took;
  const auto begin = SteadyClock::now();
  auto before = begin;
  while (static_cast<int64_t>(took.size()) < kLeastCalls ||
         std::chrono::duration<double>(before - begin).count() < seconds) {
    call();
    const auto after = SteadyClock::now();
    took.push_back(std::chrono::duration<double>(after - before).count());
    before = after;
  }
  std::nth_element(took.begin(), took.begin() + took.size() / 2, took.end());
  KernelFigure figure;
  figure.seconds = took[took.size() / 2];
  figure.calls = static_cast<int64_t>(took.size());
  return figure;
}

/// A form of weights, and of the inputs that they meet.
struct LinearForm {
  const char* name;
  const char* rounding;
  DType inputs;
  Arithmetic arithmetic;
};

std::vector<LinearForm> FormsOf(const KernelOptions& options) {
  const Arithmetic codes8 = options.byte_products ? Arithmetic::kBytes : Arithmetic::kWords;
  std::vector<LinearForm> forms = {{"bf16", "none", DType::kFloat32, Arithmetic::kFloat}};
  if (options.fast_bf16)
    forms.push_back({"bf16-inputs", "none", DType::kBFloat16, Arithmetic::kBFloat16});
  for (const char* name : {"int8-channel", "int8"})
    forms.push_back({name, name, DType::kFloat32, codes8});
  for (const char* name : {"int4", "int4-128"})
    forms.push_back({name, name, DType::kFloat32, Arithmetic::kBytes});
  return forms;
}

/// As many layers as the caches do not hold, as in a model; packed once for all numbers
/// of rows.
struct ManyLayers {
  std::string of;       // form and shape
  DeviceBuffer memory;  // of their weights
  std::vector<PackedLinear> packed;
};

absl::Status PackLayers(Device& device, const Shape& shape, const LinearForm& form,
                        ManyLayers& layers) {
  const std::string of = absl::StrCat(form.name, "/", shape.name);
  if (layers.of == of) return absl::OkStatus();
  layers = ManyLayers();
  std::vector<uint16_t> weights = Halves(shape.n * shape.k);
  ASSIGN_OR_RETURN(const RoundingRule rule, ParseRoundingRule(form.rounding));
  const HostTensor plain{DType::kBFloat16, {shape.n, shape.k}, weights.data(), nullptr};
  std::unique_ptr<RoundedRows> codes;
  LinearPart part{.weight = weights.data(), .rows = shape.n, .format = WeightFormat::kBFloat16};
  if (rule.bits != 0) {
    codes = std::make_unique<RoundedRows>(plain, rule);
    part = {.rows = shape.n, .codes = codes.get(), .integer_input = true};
  }
  ASSIGN_OR_RETURN(const PackedLinear first, device.Pack(shape.k, {part}));
  constexpr size_t kLine = 64;
  const size_t bytes = first.weight.bytes();
  const size_t stride = (bytes + kLine - 1) / kLine * kLine;
  const size_t count = BeyondCaches() / stride + 1;
  ASSIGN_OR_RETURN(layers.memory, device.Allocate(count * stride));
  for (size_t i = 0; i < count; ++i) {
    char* const weight = static_cast<char*>(layers.memory.data()) + i * stride;
    device.CopyOnDevice(weight, first.weight.data(), bytes);
    PackedLinear& layer = layers.packed.emplace_back();
    layer.n = first.n;
    layer.k = first.k;
    layer.segments = first.segments;
    layer.weight = DeviceBuffer(weight, bytes, [](void*, size_t) {});
  }
  layers.of = of;
  return absl::OkStatus();
}

absl::StatusOr<KernelFigure> MeasureLinear(Device& device, const Shape& shape,
                                           const LinearForm& form, int64_t m, double seconds,
                                           ManyLayers& layers) {
  RETURN_IF_ERROR(PackLayers(device, shape, form, layers));
  std::vector<float> x(m * shape.k, 0.25f), y(m * shape.n);
  std::vector<uint16_t> halves(m * shape.k, 0x3e80);  // the same
  const bool of_halves = form.inputs == DType::kBFloat16;
  const Tensor in{of_halves ? static_cast<void*>(halves.data()) : x.data(), form.inputs, m, shape.k,
                  shape.k};
  const Tensor out{y.data(), form.inputs, m, shape.n, shape.n};
  size_t next = 0;
  KernelFigure figure = TimeCalls(seconds, [&] {
    device.ops().Linear({.x = in, .w = &layers.packed[next], .y = out});
    next = (next + 1) % layers.packed.size();
  });
  figure.operations = 2.0 * static_cast<double>(m * shape.n * shape.k);
  figure.bytes = static_cast<double>(layers.packed.front().weight.bytes());
  figure.arithmetic = form.arithmetic;
  return figure;
}

/// Causal attention of `rows` new positions of each of `sequences` that have `context` before them.
absl::StatusOr<KernelFigure> MeasureAttention(Device& device, DType kv, const AttentionCase& of,
                                              double seconds) {
  const auto [sequences, rows, context] = of;
  constexpr HeadShape kHeads{14, 2, 64};
  constexpr int32_t kBlock = 16;
  const int32_t blocks = (context + rows + kBlock - 1) / kBlock;
  KvLayer cache;
  cache.dtype = kv;
  cache.scales_at = kv == DType::kInt8 ? kBlock * kHeads.head_dim : 0;
  cache.head_stride = kBlock * kHeads.head_dim + (kv == DType::kInt8 ? 4 * kBlock : 0);
  cache.kv_stride = kHeads.num_kv_heads * cache.head_stride;
  cache.block_stride = 2 * cache.kv_stride;
  const size_t bytes = size_t(sequences) * blocks * cache.block_stride * DTypeSize(kv);
  const size_t copies = std::max<size_t>(1, BeyondCaches() / bytes);
  ASSIGN_OR_RETURN(const DeviceBuffer memory, device.Allocate(copies * bytes));
  std::memset(memory.data(), 0x3c, copies * bytes);  // 0.01, as a float and as a bfloat16
  std::vector<BlockId> tables(sequences * blocks);
  std::vector<SequenceRows> slices;
  std::vector<int32_t> positions;
  for (int32_t s = 0; s < sequences; ++s) {
    for (int32_t b = 0; b < blocks; ++b) tables[s * blocks + b] = s * blocks + b;
    slices.push_back({s, s * rows, rows, context});
    for (int32_t r = 0; r < rows; ++r) positions.push_back(context + r);
  }
  AttentionArgs a;
  a.heads = kHeads;
  cache.data = memory.data();
  cache.block_size = kBlock;
  cache.tables = tables.data();
  cache.max_blocks = blocks;
  a.cache = cache;
  a.scale = 0.125f;
  const int64_t width = kHeads.num_heads * kHeads.head_dim;
  std::vector<float> q(sequences * rows * width, 0.1f), y(q.size());
  a.q = {q.data(), DType::kFloat32, sequences * rows, width, width};
  a.y = {y.data(), DType::kFloat32, sequences * rows, width, width};
  BatchRows batch;
  batch.num_rows = sequences * rows;
  batch.positions = positions.data();
  batch.sequences = slices;
  size_t next = 0;
  KernelFigure figure = TimeCalls(seconds, [&] {
    a.cache.data = static_cast<char*>(memory.data()) + next++ % copies * bytes;
    device.ops().Attention(a, batch);
  });
  const double pairs = sequences * (double{1} * rows * context + rows * (rows + 1) / 2.0);
  figure.operations = 4.0 * pairs * static_cast<double>(width);
  figure.bytes = double{1} * sequences * (context + rows) * 2 * kHeads.num_kv_heads *
                 kHeads.head_dim * static_cast<double>(DTypeSize(kv));
  return figure;
}

struct KernelCase {
  std::string name;
  std::function<absl::StatusOr<KernelFigure>()> measure;
};

std::vector<KernelCase> CasesOf(Device& device, const KernelOptions& options) {
  std::vector<KernelCase> cases;
  const double seconds = options.seconds;
  const auto layers = std::make_shared<ManyLayers>();  // of the case before, or the next's
  for (const LinearForm& form : FormsOf(options)) {
    for (const Shape& shape : kShapes) {
      for (const int64_t m : {1, 4, 16, 64, 256, 512}) {
        cases.push_back(
            {absl::StrCat("linear/", form.name, "/", shape.name, "/m:", m),
             [=, &device] { return MeasureLinear(device, shape, form, m, seconds, *layers); }});
      }
    }
  }
  constexpr std::pair<const char*, AttentionCase> kAttention[] = {
      {"prefill:512", {1, 512, 0}},
      {"prefill:512/context:1536", {1, 512, 1536}},
      {"decode:1/context:512", {1, 1, 512}},
      {"decode:16/context:512", {16, 1, 512}},
      {"decode:16/context:2048", {16, 1, 2048}}};
  for (const DType kv : {DType::kFloat32, DType::kBFloat16, DType::kInt8}) {
    const bool halves = options.fast_bf16 && kv != DType::kFloat32;
    for (const auto& [what, of] : kAttention) {
      const AttentionCase one = of;
      cases.push_back({absl::StrCat("attention/", std::string(DTypeName(kv)), "/", what),
                       [=, &device]() -> absl::StatusOr<KernelFigure> {
                         ASSIGN_OR_RETURN(KernelFigure figure,
                                          MeasureAttention(device, kv, one, seconds));
                         if (halves) figure.arithmetic = Arithmetic::kBFloat16;
                         return figure;
                       }});
    }
  }
  return cases;
}

}  // namespace

absl::StatusOr<std::vector<KernelFigure>> MeasureKernels(
    Device& device, const KernelOptions& options,
    const std::function<void(const KernelFigure&)>& measured, const StepProgress& progress) {
  ASSIGN_OR_RETURN(const Regex filter, Regex::Compile(options.filter));
  std::vector<KernelCase> cases = CasesOf(device, options);
  std::erase_if(cases, [&](const KernelCase& one) {
    Regex::Match found;
    return !options.filter.empty() && !filter.Find(one.name, 0, &found);
  });
  if (cases.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: nothing is called like '", options.filter, "'"));
  }
  std::vector<KernelFigure> out;
  for (const KernelCase& one : cases) {
    if (progress) progress(static_cast<int64_t>(out.size()), static_cast<int64_t>(cases.size()));
    ASSIGN_OR_RETURN(KernelFigure figure, one.measure());
    figure.name = one.name;
    measured(figure);
    out.push_back(std::move(figure));
  }
  return out;
}

}  // namespace penstock
