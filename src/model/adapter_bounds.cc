// What adapters take at most, of any rank and on all layers.
#include <algorithm>
#include <set>

#include "model/adapted_members.h"

namespace penstock {
namespace {

constexpr int64_t kPanelRows = 64;           // what a device may round rows up to
constexpr int64_t kLeastColumns = 4;         // what a device may make of a column or two, of floats
constexpr int32_t kAdaptedExpertRows = 256;  // of the batch, whose experts are computed at once

int64_t PanelsOf(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows * kPanelRows; }

int64_t FloatsOf(int64_t rows, int64_t k) {
  return PanelsOf(rows) * std::max(k + 1, kLeastColumns);
}

int64_t ModulesOf(const LayerLinear& linear) {
  std::set<std::string> modules;
  for (const RowsOf& part : linear.parts) modules.insert(part.name);
  return static_cast<int64_t>(modules.size());
}

/// fn(linear) for each linear layer of a block that is adapted by two products.
template <class Fn>
void ForEachLinear(const LayerLinears& l, const Fn& fn) {
  for (const AdaptedMember& member : kAdaptedMembers) {
    const LayerLinear& linear = l.*member.linear;
    if (!linear.parts.empty()) fn(linear);
  }
}

int64_t LinearFloats(const LayerLinear& linear, int32_t max_rank) {
  int64_t floats = FloatsOf(ModulesOf(linear) * max_rank, linear.k);
  for (const RowsOf& part : linear.parts) floats += FloatsOf(part.rows, max_rank);
  return floats;
}

int64_t ExpertFloats(const ModelConfig& config, int32_t index, int32_t max_rank) {
  const ExpertLinears expert = ExpertLinearsOf(config, "", index);
  return LinearFloats(expert.gate_up, max_rank) + LinearFloats(expert.down, max_rank);
}

int64_t LatentFloats(const ModelConfig& config, const HeadShape& heads, int32_t max_rank) {
  const LatentConfig& c = config.latent;
  return FloatsOf(max_rank, c.kv_rank) + FloatsOf(c.kv_rank, max_rank) +
         heads.num_heads * (FloatsOf(max_rank, c.nope_dim) + FloatsOf(c.value_dim, max_rank));
}

}  // namespace

int64_t MaxAdapterBytes(const ModelConfig& config, const AdapterBounds& bounds) {
  const int32_t rank = bounds.max_rank;
  const ExpertsConfig& e = config.experts;
  int64_t floats = 0;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerLinears linears = LinearsOf(config, i, "");
    ForEachLinear(linears,
                  [&](const LayerLinear& linear) { floats += LinearFloats(linear, rank); });
    if (!linears.kv_b.parts.empty()) floats += LatentFloats(config, config.layers[i].heads, rank);
    if (!config.layers[i].experts) continue;
    if (bounds.experts && !e.always_stacked)
      floats += e.num_experts * ExpertFloats(config, 0, rank);
    if (e.shared_intermediate_size > 0) floats += ExpertFloats(config, e.num_experts, rank);
  }
  floats += FloatsOf(rank, config.hidden_size) + FloatsOf(config.vocab_size, rank);  // the head
  floats +=
      int64_t{config.vocab_size} * rank + FloatsOf(config.hidden_size, rank);  // the embedding
  return floats * static_cast<int64_t>(sizeof(float));
}

int64_t MaxAdapterColumns(const ModelConfig& config, int32_t max_rank) {
  int64_t most = max_rank;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    ForEachLinear(LinearsOf(config, i, ""), [&](const LayerLinear& linear) {
      most = std::max(most, ModulesOf(linear) * max_rank);
    });
    if (!config.layers[i].experts) continue;
    const ExpertLinears expert = ExpertLinearsOf(config, "", 0);
    most = std::max(most, ModulesOf(expert.gate_up) * max_rank);
  }
  return most;
}

AdaptedExpertRoom AdaptedExpertRoom::For(const ModelConfig& config, int32_t max_rows) {
  const ExpertsConfig& e = config.experts;
  AdaptedExpertRoom room;
  if (e.num_experts == 0) return room;
  const int64_t slots = e.top_k + (e.shared_intermediate_size > 0 ? 1 : 0);
  room.rows = std::min(max_rows, kAdaptedExpertRows);
  room.in = config.hidden_size;
  room.wide = int64_t{2} * std::max(e.intermediate_size, e.shared_intermediate_size);
  room.out = slots * config.hidden_size;
  return room;
}

int64_t AdapterStepBytes(const ModelConfig& config, int32_t max_rank, int32_t max_rows) {
  const AdaptedExpertRoom room = AdaptedExpertRoom::For(config, max_rows);
  const int64_t floats = max_rows * MaxAdapterColumns(config, max_rank) +
                         room.rows * (room.in + room.wide + 2 * room.out);
  return floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace penstock
