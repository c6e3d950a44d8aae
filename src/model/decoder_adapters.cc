// What adapters add to a decoder's layers, for the rows of the batch that have one.
#include <algorithm>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "model/decoder.h"

namespace penstock {
namespace {

/// y += scaling * wide (narrow x), by row, for those whose adapter has a kv_b; `of` it: {narrow,
/// wide}. `room` has place for the product between them.
template <class Of>
void AddLatentUps(Ops& ops, absl::Span<const AdaptedRows> adapted, size_t index, void* room,
                  const Tensor& x, const Tensor& y, const Of& of) {
  for (const AdaptedRows& rows : adapted) {
    const AdaptedLatentUp* up = rows.adapter->layers[index].kv_b.get();
    if (up == nullptr) continue;
    const auto [narrow, wide] = of(*up);
    const int64_t rank = up->down.n;
    const Tensor between = {room, DType::kFloat32, rows.num_rows, rank, rank};
    ops.Linear({.x = RowsOfTensor(x, rows.row_begin, rows.num_rows), .w = narrow, .y = between});
    ops.Linear({.x = between,
                .w = wide,
                .y = RowsOfTensor(y, rows.row_begin, rows.num_rows),
                .accumulate = true,
                .scale = up->scaling});
  }
}

}  // namespace

absl::Status Decoder::AllocateAdapters(int32_t max_rows, int64_t adapter_columns) {
  if (adapter_columns == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(adapter_buffer_, device_->Allocate(max_rows * adapter_columns * sizeof(float)));
  expert_room_ = AdaptedExpertRoom::For(*config_, max_rows);
  const AdaptedExpertRoom& room = expert_room_;
  if (room.rows == 0) return absl::OkStatus();
  const auto element = static_cast<int64_t>(DTypeSize(dtype_));
  ASSIGN_OR_RETURN(expert_in_, device_->Allocate(room.rows * room.in * element));
  ASSIGN_OR_RETURN(expert_wide_, device_->Allocate(room.rows * room.wide * element));
  ASSIGN_OR_RETURN(expert_out_, device_->Allocate(2 * room.rows * room.out * sizeof(float)));
  return absl::OkStatus();
}

void Decoder::AddProducts(const AdaptedLinear& linear, const Tensor& x, const Tensor& y,
                          float scale) {
  if (linear.parts.empty()) return;
  Ops& ops = device_->ops();
  const int64_t rank = linear.a.n;
  const Tensor narrow = {adapter_buffer_.data(), DType::kFloat32, x.rows, rank, rank};
  ops.Linear({.x = x, .w = &linear.a, .y = narrow});
  for (const AdaptedPart& part : linear.parts) {
    ops.Linear({.x = ColumnsOf(narrow, part.a_begin, part.b.k),
                .w = &part.b,
                .y = ColumnsOf(y, part.y_begin, part.b.n),
                .accumulate = true,
                .scale = scale * part.scaling});
  }
}

void Decoder::AddAdapted(AdaptedLinear AdaptedLayer::*linear, size_t index, const Tensor& x,
                         const Tensor& y, float scale) {
  for (const AdaptedRows& rows : adapted_) {
    AddProducts(rows.adapter->layers[index].*linear, RowsOfTensor(x, rows.row_begin, rows.num_rows),
                RowsOfTensor(y, rows.row_begin, rows.num_rows), scale);
  }
}

void Decoder::AddAdaptedEmbedding(const BatchRows& batch) {
  Ops& ops = device_->ops();
  for (const AdaptedRows& rows : adapted_) {
    const AdaptedEmbedding& adapted = rows.adapter->embedding;
    if (adapted.table.rows == 0) continue;
    const int64_t rank = adapted.table.cols;
    const Tensor narrow = {adapter_buffer_.data(), DType::kFloat32, rows.num_rows, rank, rank};
    ops.Embed({.table = adapted.table, .ids = batch.ids + rows.row_begin, .y = narrow});
    ops.Linear({.x = narrow,
                .w = &adapted.b,
                .y = RowsOfTensor(hidden_, rows.row_begin, rows.num_rows),
                .accumulate = true,
                .scale = config_->embedding_scale * adapted.scaling});
  }
}

void Decoder::AddAdaptedKeys(size_t index, int32_t h, const Tensor& nope, const Tensor& q) {
  AddLatentUps(device_->ops(), adapted_, index, adapter_buffer_.data(), nope, q,
               [h](const AdaptedLatentUp& up) { return std::pair(&up.keys[h], &up.down_back); });
}

void Decoder::AddAdaptedValues(size_t index, int32_t h, const Tensor& latents,
                               const Tensor& values) {
  AddLatentUps(device_->ops(), adapted_, index, adapter_buffer_.data(), latents, values,
               [h](const AdaptedLatentUp& up) { return std::pair(&up.down, &up.values[h]); });
}

void Decoder::Experts(size_t index, const MixtureWeights& w, const RouteArgs& route,
                      const Tensor& y) {
  ExpertsArgs all;
  all.x = input_;
  all.ids = route.ids;
  all.weights = route.weights;
  all.num_slots = route.top_k + (route.shared == RouteArgs::kNone ? 0 : 1);
  all.experts = w.experts;
  all.activation = Activation();
  all.y = y;
  const auto part = [&](int64_t begin, int64_t count) {
    ExpertsArgs args = all;
    args.x = RowsOfTensor(all.x, begin, count);
    args.ids += begin * all.num_slots;
    args.weights += begin * all.num_slots;
    args.y = RowsOfTensor(all.y, begin, count);
    return args;
  };
  int64_t done = 0;
  for (const AdaptedRows& rows : adapted_) {
    const std::vector<AdaptedExpert>& adapted = rows.adapter->layers[index].experts;
    if (adapted.empty()) continue;
    if (rows.row_begin > done) device_->ops().Experts(part(done, rows.row_begin - done));
    done = rows.row_begin;
    const int64_t end = done + rows.num_rows;
    while (done < end) {
      const int64_t count = std::min(expert_room_.rows, end - done);
      AdaptedExperts(adapted, part(done, count));
      done += count;
    }
  }
  if (done < y.rows) device_->ops().Experts(part(done, y.rows - done));
}

void Decoder::AdaptedExperts(const std::vector<AdaptedExpert>& adapted, const ExpertsArgs& args) {
  Ops& ops = device_->ops();
  const int64_t hidden = args.x.cols;
  const int64_t num_visits = args.x.rows * args.num_slots;
  std::vector<int32_t> ids(num_visits);
  device_->CopyToHost(ids.data(), args.ids, num_visits * sizeof(int32_t));
  // One expert's rows after another's; a visit is row * num_slots + slot.
  std::vector<std::vector<int32_t>> rows_of(args.experts.size());
  std::vector<std::vector<int32_t>> visits_of(args.experts.size());
  for (int64_t visit = 0; visit < num_visits; ++visit) {
    rows_of[ids[visit]].push_back(static_cast<int32_t>(visit / args.num_slots));
    visits_of[ids[visit]].push_back(static_cast<int32_t>(visit));
  }
  std::vector<int32_t> place_of(num_visits);
  auto* sorted = static_cast<float*>(expert_out_.data());
  auto* by_visit = sorted + expert_room_.rows * expert_room_.out;
  const Tensor outs = {sorted, DType::kFloat32, num_visits, hidden, hidden};
  int64_t done = 0;
  for (size_t e = 0; e < args.experts.size(); ++e) {
    auto place = static_cast<int32_t>(done);
    for (const int32_t visit : visits_of[e]) place_of[visit] = place++;
    const absl::Span<const int32_t> rows = rows_of[e];
    const auto count = static_cast<int64_t>(rows.size());
    if (count == 0) continue;
    const ExpertWeights& w = args.experts[e];
    const int64_t inner = w.down.k;
    const Tensor x = Activations(expert_in_, count, hidden);
    const Tensor wide = Activations(expert_wide_, count, w.gate_up.n);
    const Tensor own = RowsOfTensor(outs, done, count);
    ops.GatherRows(args.x, rows, x);
    ops.Linear({.x = x, .w = &w.gate_up, .y = wide});
    AddProducts(adapted[e].gate_up, x, wide, 1.0f);
    ActivationArgs activation = args.activation;
    activation.gate = activation.y = ColumnsOf(wide, 0, inner);
    activation.up = ColumnsOf(wide, inner, inner);
    ops.Activate(activation);
    ops.Linear({.x = activation.y, .w = &w.down, .y = own});
    AddProducts(adapted[e].down, activation.y, own, 1.0f);
    done += count;
  }
  const Tensor in_order = {by_visit, DType::kFloat32, num_visits, hidden, hidden};
  ops.GatherRows(outs, place_of, in_order);
  ops.SumExperts({in_order, args.weights, args.num_slots, args.y});
}

void Decoder::Logits(const Tensor& x, absl::Span<const int32_t> rows, const Tensor& logits) {
  device_->ops().Linear({.x = x,
                         .w = &weights_->head(),
                         .y = logits,
                         .scale = config_->logit_scale,
                         .soft_cap = config_->final_soft_cap});
  const auto adapter_of = [this](int32_t row) -> const AdapterWeights* {
    for (const AdaptedRows& adapted : adapted_) {
      if (row >= adapted.row_begin && row < adapted.row_begin + adapted.num_rows)
        return adapted.adapter->head.parts.empty() ? nullptr : adapted.adapter;
    }
    return nullptr;
  };
  const int64_t num_rows = adapted_.empty() ? 0 : x.rows;
  for (int64_t begin = 0; begin < num_rows;) {
    const AdapterWeights* adapter = adapter_of(rows[begin]);
    int64_t end = begin + 1;
    while (end < num_rows && adapter_of(rows[end]) == adapter) ++end;
    if (adapter != nullptr) {
      AdaptLogits(adapter->head, RowsOfTensor(x, begin, end - begin),
                  RowsOfTensor(logits, begin, end - begin));
    }
    begin = end;
  }
}

void Decoder::AdaptLogits(const AdaptedLinear& head, const Tensor& x, const Tensor& logits) {
  Ops& ops = device_->ops();
  const float scale = config_->logit_scale;
  if (config_->final_soft_cap == 0) return AddProducts(head, x, logits, scale);
  // The bound is of the sum: what was bounded already is computed again, without.
  ops.Linear({.x = x, .w = &weights_->head(), .y = logits, .scale = scale});
  AddProducts(head, x, logits, scale);
  ActivationArgs bound;
  bound.f = Activation::kSoftCap;
  bound.gate = bound.y = logits;
  bound.limit = config_->final_soft_cap;
  ops.Activate(bound);
}

}  // namespace penstock
