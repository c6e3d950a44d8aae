#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/shared_math.h"

namespace penstock {
namespace {

/// The top `count` of `score`, best first; of equal ones the lower index. What is no number is the
/// least.
void TopIndices(absl::Span<const float> score, int32_t count, std::vector<int32_t>& order) {
  order.resize(score.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](int32_t i) { return std::isnan(score[i]) ? -INFINITY : score[i]; };
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int32_t a, int32_t b) { return at(a) != at(b) ? at(a) > at(b) : a < b; });
  order.resize(count);
}

void Softmax(absl::Span<float> x) {
  float best = -INFINITY;
  for (const float v : x) best = std::max(best, v);  // that is a number
  float sum = 0;
  for (float& v : x) sum += v = SharedExp(v - best);
  for (float& v : x) v /= sum;
}

float SigmoidOf(float x) { return 1.0f / (1.0f + SharedExp(-x)); }

/// Leaves the groups that may not be chosen from at minus infinity.
void MaskGroups(const RouterRule& rule, absl::Span<float> choice) {
  const size_t size = choice.size() / rule.num_groups;
  std::vector<float> best(rule.num_groups);
  for (int32_t g = 0; g < rule.num_groups; ++g) {
    std::vector<int32_t> two;
    TopIndices(choice.subspan(g * size, size), rule.group_best, two);
    best[g] = choice[g * size + two[0]];
    if (rule.group_best > 1) best[g] += choice[g * size + two[1]];
  }
  std::vector<int32_t> kept;
  TopIndices(best, rule.top_groups, kept);
  for (int32_t g = 0; g < rule.num_groups; ++g) {
    if (std::find(kept.begin(), kept.end(), g) != kept.end()) continue;
    std::fill_n(choice.begin() + g * size, size, -INFINITY);
  }
}

void RouteRow(const RouteArgs& a, const float* logits, int32_t* ids, float* weights) {
  std::vector<float> score(logits, logits + a.num_experts);
  if (a.rule.score == RouterScore::kSoftmax) Softmax(absl::MakeSpan(score));
  if (a.rule.score == RouterScore::kSigmoid) {
    std::transform(score.begin(), score.end(), score.begin(), SigmoidOf);
  }
  std::vector<float> choice = score;
  for (int32_t e = 0; a.score_bias != nullptr && e < a.num_experts; ++e)
    choice[e] += a.score_bias[e];
  if (a.rule.num_groups > 1) MaskGroups(a.rule, absl::MakeSpan(choice));
  std::vector<int32_t> chosen;
  TopIndices(choice, a.top_k, chosen);
  std::vector<float> weight;
  for (const int32_t e : chosen) weight.push_back(score[e]);
  if (a.rule.score == RouterScore::kSoftmaxOfChosen) Softmax(absl::MakeSpan(weight));
  if (a.rule.normalize) {
    const float sum = std::accumulate(weight.begin(), weight.end(), 0.0f);
    for (float& w : weight) w /= sum > 0 ? sum : 1.0f;
  }
  for (int32_t i = 0; i < a.top_k; ++i) {
    ids[i] = chosen[i];
    weights[i] = weight[i] * a.rule.scale;
  }
  if (a.shared == RouteArgs::kNone) return;
  ids[a.top_k] = a.num_experts;
  weights[a.top_k] =
      a.shared == RouteArgs::kGated ? SigmoidOf(logits[a.num_experts]) : a.rule.shared_scale;
}

Tensor Floats(std::vector<float>& storage, int64_t rows, int64_t cols) {
  if (static_cast<int64_t>(storage.size()) < rows * cols) storage.resize(rows * cols);
  return {storage.data(), DType::kFloat32, rows, cols, cols};
}

}  // namespace

void CpuOps::Route(const RouteArgs& a) {
  const int32_t slots = a.top_k + (a.shared == RouteArgs::kNone ? 0 : 1);
  ForRows(a.logits.rows, 8 * a.logits.cols, [&](int64_t r) {
    RouteRow(a, reinterpret_cast<const float*>(a.logits.row(r)), a.ids + r * slots,
             a.weights + r * slots);
  });
}

void CpuOps::Experts(const ExpertsArgs& a) {
  // visits_[e]: (row, slot) pairs of expert e as row * num_slots + slot, in order.
  const int64_t num_visits = a.x.rows * a.num_slots;
  visits_.resize(a.experts.size());
  for (auto& visits : visits_) visits.clear();
  for (int64_t i = 0; i < num_visits; ++i) visits_[a.ids[i]].push_back(static_cast<int32_t>(i));
  const Tensor out = Floats(expert_out_, num_visits, a.y.cols);  // at row * num_slots + slot
  std::vector<int32_t> rows;
  for (size_t e = 0; e < a.experts.size(); ++e) {
    const auto num_rows = static_cast<int64_t>(visits_[e].size());
    if (num_rows == 0) continue;
    const ExpertWeights& w = a.experts[e];
    rows.clear();
    for (const int32_t visit : visits_[e]) rows.push_back(visit / a.num_slots);
    Tensor x = Floats(expert_in_, num_rows, a.x.cols);
    x.dtype = a.x.dtype;
    GatherRows(a.x, rows, x);
    const int64_t inner = w.down.k;
    Tensor wide = Floats(expert_wide_, num_rows, w.gate_up.n);
    wide.dtype = a.x.dtype;
    Linear({x, &w.gate_up, wide});
    ActivationArgs activation = a.activation;
    activation.gate = activation.y = wide;
    activation.gate.cols = activation.y.cols = inner;
    activation.up = activation.gate;
    activation.up.data = wide.row(0) + inner * static_cast<int64_t>(DTypeSize(wide.dtype));
    Activate(activation);
    const Tensor down = Floats(expert_down_, num_rows, a.y.cols);
    Linear({activation.y, &w.down, down});
    for (int64_t i = 0; i < num_rows; ++i) {
      std::copy_n(reinterpret_cast<const float*>(down.row(i)), a.y.cols,
                  reinterpret_cast<float*>(out.row(visits_[e][i])));
    }
  }
  SumExperts({out, a.weights, a.num_slots, a.y});
}

void CpuOps::SumExperts(const ExpertSumArgs& a) {
  // The order of a row's sum is that of its slots, whatever else is in the batch.
  ForRows(a.y.rows, a.num_slots * a.y.cols, [&](int64_t r) {
    auto* sum = reinterpret_cast<float*>(a.x.row(r * a.num_slots));
    for (int64_t c = 0; c < a.y.cols; ++c) sum[c] *= a.weights[r * a.num_slots];
    for (int32_t s = 1; s < a.num_slots; ++s) {
      kernels_.add_scaled_row(reinterpret_cast<const float*>(a.x.row(r * a.num_slots + s)),
                              a.weights[r * a.num_slots + s], a.y.cols, sum);
    }
    kernels_.convert_row(DType::kFloat32, sum, a.y.dtype == DType::kBFloat16, a.y.row(r), a.y.cols,
                         1.0f, true);
  });
}

}  // namespace penstock
