#include "backend/cpu/choose_kernels.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/cpu_features.h"
#include "base/strings.h"

namespace penstock {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::string_view kNames[] = {"avx512-bf16", "avx512-vnni", "avx512", "avx2-vnni", "avx2"};
constexpr double kClearlyFaster = 1.08;
constexpr double kNearlyAsFast = 0.8;
constexpr int kRounds = 3;  // over all tables, so that a moment's neighbour decides nothing
constexpr auto kPatience = std::chrono::microseconds(250);  // per kind and width of codes

/// A layer of one panel that lies in L2 with its inputs, and the arguments of its product.
class MeasuredLayer {
 public:
  enum class Inputs : uint8_t { kFloat, kBFloat16, kBytes };
  MeasuredLayer(const CpuKernels& kernels, WeightFormat format, Inputs inputs)
      : kernels_(kernels), coded_(format != WeightFormat::kBFloat16) {
    const int64_t n = kernels.panel_rows;
    const int bits = format == WeightFormat::kCodes4 ? 4 : 8;
    x_.assign(kRows * kDepth, 0.5f);
    panel_.assign(coded_ ? CodeUnits(bits, kDepth) * n * kUnitBytes : n * kDepth * 2, 0x3c);
    scales_.assign(kDepth / kGroup * n, 0.25f);
    y_.resize(kRows * n);
    scratch_.resize((kGemmDepth + kRows) * n + 16);
    const auto address = reinterpret_cast<uintptr_t>(scratch_.data());
    args_.weights = scratch_.data() + (64 - address % 64) % 64 / sizeof(float);
    args_.sums = args_.weights + kGemmDepth * n;
    args_.format = format;
    args_.x = x_.data();
    args_.x_stride = kDepth;
    args_.m = kRows;
    args_.k = kDepth;
    args_.panel = panel_.data();
    args_.codes.codes = panel_.data();
    args_.codes.scales = scales_.data();
    args_.codes.scales_stride = n * static_cast<int64_t>(sizeof(float));
    args_.codes.center = 1 << (bits - 1);
    args_.codes.group = kGroup;
    args_.y = y_.data();
    args_.y_stride = n;
    args_.n = n;
    if (inputs == Inputs::kBytes) RoundInputs();
    if (inputs == Inputs::kBFloat16) {
      halves_.assign(kRows * kDepth, 0x3f00);
      args_.x_bf16 = halves_.data();
      args_.x_bf16_stride = kDepth;
    }
  }

  /// The least time of a product: others may have the core for some of them.
  double BestSeconds() {
    const auto begin = SteadyClock::now();
    auto before = begin;
    auto best = SteadyClock::duration::max();
    for (int run = 0; run < kLeastRuns || before - begin < kPatience; ++run) {
      kernels_.gemm_panel(args_);
      const auto after = SteadyClock::now();
      best = std::min(best, after - before);
      before = after;
    }
    return std::chrono::duration<double>(best).count();
  }

  double operations() const {
    return 2.0 * kRows * kDepth * static_cast<double>(kernels_.panel_rows);
  }

 private:
  static constexpr int64_t kRows = 24;
  static constexpr int64_t kDepth = 512;
  static constexpr int64_t kGroup = 32;
  static constexpr int kLeastRuns = 8;

  void RoundInputs() {
    constexpr int64_t kGroups = kDepth / kGroup;
    q_.resize(kRows * kDepth);
    words_.resize(kRows * kDepth);
    input_scales_.resize(kRows * kGroups);
    sums_.resize(kRows * kGroups);
    starts_.resize(kRows * kGroups);
    for (int64_t r = 0; r < kRows; ++r) {
      kernels_.quantize_row({&x_[r * kDepth], kDepth, kGroup, &q_[r * kDepth], kDepth,
                             &input_scales_[r * kGroups], &sums_[r * kGroups],
                             &starts_[r * kGroups], args_.codes.center, &words_[r * kDepth]});
    }
    const bool words = kernels_.word_inputs && args_.format == WeightFormat::kCodes8;
    args_.input = {q_.data(),      kDepth,  input_scales_.data(),           sums_.data(),
                   starts_.data(), kGroups, words ? words_.data() : nullptr};
  }

  const CpuKernels& kernels_;
  bool coded_;
  std::vector<float> x_, scales_, y_, scratch_, input_scales_;
  std::vector<uint8_t> panel_;
  std::vector<int8_t> q_;
  std::vector<int16_t> words_;
  std::vector<uint16_t> halves_;
  std::vector<int32_t> sums_, starts_;
  GemmPanelArgs args_;
};

double GopsOf(const CpuKernels& kernels, absl::Span<const WeightFormat> formats,
              MeasuredLayer::Inputs inputs) {
  double operations = 0;
  double seconds = 0;
  for (const WeightFormat format : formats) {
    MeasuredLayer layer(kernels, format, inputs);
    operations += layer.operations();
    seconds += layer.BestSeconds();
  }
  return seconds > 0 ? operations / seconds * 1e-9 : 0;
}

const CpuKernels* Fastest(absl::Span<const MeasuredKernels> measured,
                          double MeasuredKernels::*gops) {
  const MeasuredKernels* best = nullptr;
  for (const MeasuredKernels& one : measured) {
    if (!one.agrees) continue;
    if (best == nullptr || one.*gops > best->*gops * kClearlyFaster) best = &one;
  }
  return best == nullptr ? nullptr : best->table;
}

/// The table for numbers: where one multiplies bfloat16 faster than any does float32, that one if its
/// other products are not much slower. On some processors those of bfloat16 are the slow ones.
void ChoosePlain(absl::Span<const MeasuredKernels> measured, KernelChoice& choice) {
  choice.plain = Fastest(measured, &MeasuredKernels::plain_gops);
  double plain_gops = 0;
  for (const MeasuredKernels& one : measured) {
    if (one.table == choice.plain) plain_gops = one.plain_gops;
  }
  double best = plain_gops * kClearlyFaster;
  for (const MeasuredKernels& one : measured) {
    if (!one.agrees || one.bf16_gops <= best || one.plain_gops < plain_gops * kNearlyAsFast)
      continue;
    best = one.bf16_gops;
    choice.plain = one.table;
    choice.bf16_products = true;
  }
}

void Measure(MeasuredKernels& one) {
  using Inputs = MeasuredLayer::Inputs;
  constexpr WeightFormat kCodes[] = {WeightFormat::kCodes4, WeightFormat::kCodes8};
  const auto take = [&](double& best, absl::Span<const WeightFormat> formats, Inputs inputs) {
    best = std::max(best, GopsOf(*one.table, formats, inputs));
  };
  take(one.plain_gops, {WeightFormat::kBFloat16}, Inputs::kFloat);
  if (one.table->bf16_products) take(one.bf16_gops, {WeightFormat::kBFloat16}, Inputs::kBFloat16);
  take(one.codes_gops, kCodes, Inputs::kFloat);
  take(one.integers_gops, kCodes, Inputs::kBytes);
}

}  // namespace

int64_t KernelChoice::max_panel_rows() const {
  return std::max({plain->panel_rows, codes->panel_rows, integers->panel_rows});
}

std::string KernelChoice::Describe() const {
  if (plain == codes && codes == integers) return plain->name;
  return absl::StrCat("plain ", plain->name, ", codes ", codes->name, ", integers ",
                      integers->name);
}

absl::Span<const std::string_view> KernelNames() { return kNames; }

std::vector<const CpuKernels*> RunnableKernels() {
  std::vector<const CpuKernels*> tables;
#ifndef PENSTOCK_NO_WIDEST_KERNELS
  if (CpuHasAvx512Bf16()) tables.push_back(&Avx512Bf16Kernels());
#endif
#ifndef PENSTOCK_NO_KERNELS_BETWEEN
  if (CpuHasAvx512Vnni()) tables.push_back(&Avx512VnniKernels());
  if (CpuHasAvx512()) tables.push_back(&Avx512Kernels());
  if (CpuHasAvxVnni()) tables.push_back(&AvxVnniKernels());
#endif
  tables.push_back(&Avx2Kernels());
  return tables;
}

std::vector<MeasuredKernels> MeasureKernels(absl::Span<const CpuKernels* const> tables) {
  std::vector<MeasuredKernels> measured;
  for (const CpuKernels* table : tables) {
    MeasuredKernels& one = measured.emplace_back();
    one.table = table;
    one.agrees = SelfTest(*table);
  }
  for (int round = 0; round < kRounds; ++round) {
    for (MeasuredKernels& one : measured) {
      if (one.agrees) Measure(one);
    }
  }
  return measured;
}

const std::vector<MeasuredKernels>& ProcessKernels() {
  static const std::vector<MeasuredKernels> measured = MeasureKernels(RunnableKernels());
  return measured;
}

absl::StatusOr<KernelChoice> ChooseKernels(absl::Span<const MeasuredKernels> measured,
                                           std::string_view name) {
  if (name == "auto") {
    KernelChoice choice;
    ChoosePlain(measured, choice);
    choice.codes = Fastest(measured, &MeasuredKernels::codes_gops);
    choice.integers = Fastest(measured, &MeasuredKernels::integers_gops);
    if (choice.plain == nullptr) {
      return absl::FailedPreconditionError(
          "no kernels agree with plain arithmetic on this processor");
    }
    return choice;
  }
  std::vector<std::string> usable;
  for (const MeasuredKernels& one : measured) {
    if (one.agrees && one.table->name == name) {
      KernelChoice choice(*one.table);
      choice.bf16_products = one.bf16_gops > one.plain_gops * kClearlyFaster;
      return choice;
    }
    if (one.agrees) usable.emplace_back(one.table->name);
  }
  const bool failed = std::any_of(measured.begin(), measured.end(),
                                  [&](const MeasuredKernels& m) { return m.table->name == name; });
  return absl::FailedPreconditionError(
      absl::StrCat("cpu_kernels is ", ToAbsl(name),
                   failed ? ", which failed its self-test on this processor; expected auto or "
                          : ", which this processor does not run; expected auto or ",
                   absl::StrJoin(usable, ", ")));
}

}  // namespace penstock
