// What a decoder does otherwise where it is one rank's part of a model.
#include "model/decoder.h"

namespace penstock {

Tensor Decoder::Partial(int64_t rows) const {
  const int64_t hidden = config_->hidden_size;
  return {partial_buffer_.data(), DType::kFloat32, rows, hidden, hidden};
}

void Decoder::EmbedOwn(const BatchRows& batch) {
  const PackedLinear* packed = weights_->packed_table();
  const int64_t begin = weights_->vocab_begin;
  const int64_t count = packed != nullptr ? packed->n : weights_->embedding.rows;
  const auto is_own = [&](int64_t token) { return token >= begin && token < begin + count; };
  own_ids_.resize(batch.num_rows);
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    own_ids_[r] = is_own(batch.ids[r]) ? static_cast<int32_t>(batch.ids[r] - begin) : 0;
  }
  const Tensor sum = Partial(batch.num_rows);
  device_->ops().Embed({.table = weights_->embedding,
                        .ids = own_ids_.data(),
                        .y = sum,
                        .scale = config_->embedding_scale,
                        .packed = packed});
  for (int32_t r = 0; r < batch.num_rows; ++r) {
    if (!is_own(batch.ids[r])) device_->CopyOnDevice(sum.row(r), nullptr, sum.cols * sizeof(float));
  }
  if (!link_.collective->AllReduceSum(link_.rank, sum).ok()) return;
  device_->ops().Embed({.table = sum, .ids = row_numbers_.data(), .y = hidden_});
}

void Decoder::AddSum(int64_t rows, float scale, const NormWeights& after, float scalar) {
  const Tensor sum = Partial(rows);
  if (!link_.collective->AllReduceSum(link_.rank, sum).ok()) return;
  const bool normed = after.weight.data() != nullptr;
  // A table whose rows are looked up in order: numbers of one type added to those of another.
  device_->ops().Embed({.table = sum,
                        .ids = row_numbers_.data(),
                        .y = normed ? normed_ : hidden_,
                        .scale = normed ? 1.0f : scale,
                        .accumulate = !normed});
  if (normed) AddNormed(after, scalar);
}

}  // namespace penstock
