#include "executor/drafter.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace penstock {

void DraftPass::Clear() {
  ids.clear();
  positions.clear();
  slots.clear();
  sequences.clear();
}

void DraftPass::Add(SlotId slot, int32_t position, TokenId token) {
  if (sequences.empty() || sequences.back().slot != slot.value) {
    sequences.push_back({slot.value, num_rows(), 0, position});
  }
  ++sequences.back().num_rows;
  ids.push_back(token);
  positions.push_back(position);
  slots.push_back(slot.value);
}

BatchRows DraftPass::batch() const {
  BatchRows rows;
  rows.num_rows = num_rows();
  rows.ids = ids.data();
  rows.positions = positions.data();
  rows.slots = slots.data();
  rows.sequences = sequences;
  return rows;
}

absl::Status Drafter::MakeCache(const ModelConfig& config) {
  ASSIGN_OR_RETURN(KvCache cache, KvCache::Make(config, options_.cache, *model_->device));
  cache_ = std::make_unique<KvCache>(std::move(cache));
  num_layers_ = config.layers.size();
  filled_.resize(group().num_blocks);
  return absl::OkStatus();
}

CacheGroup Drafter::group() const {
  CacheGroup group = cache_->groups().front();
  group.retention = CacheRetention::kDraft;
  return group;
}

void Drafter::UseSlots(SlotTable* slots, int32_t group) {
  slots_ = slots;
  group_ = group;
  layers_.clear();
  for (size_t i = 0; i < num_layers_; ++i) {
    LayerCache layer;
    layer.kv = cache_->layer(i, slots->tables(group), slots->max_blocks());
    layers_.push_back(layer);
  }
}

BlockId Drafter::BlockOf(SlotId slot, int32_t index) const {
  return slots_->tables(group_)[int64_t{slot.value} * slots_->max_blocks() + index];
}

void Drafter::NoteBlocks(SlotId id, int32_t first, int32_t begin) {
  const int32_t size = options_.cache.block_size;
  Slot& slot = slots_->at(id);
  for (int32_t i = first; i < slot.num_blocks[group_]; ++i) {
    int32_t& filled = filled_[BlockOf(id, i)];
    if ((i + 1) * size > begin) {
      filled = 0;
    } else if (slot.draft_end == i * size) {
      slot.draft_end += filled;
    }
  }
}

void Drafter::NoteFilled(SlotId slot, int32_t position) {
  const int32_t size = options_.cache.block_size;
  filled_[BlockOf(slot, position / size)] = position % size + 1;
}

absl::Status Drafter::Follow(Network&, absl::Span<const SequenceRows>) { return absl::OkStatus(); }

absl::Status Drafter::Draw(const HeadWork& work, int32_t vocab_size,
                           absl::Span<DraftRequest* const> requests,
                           absl::Span<const int32_t> rows) {
  const auto n = static_cast<int64_t>(requests.size());
  ASSIGN_OR_RETURN(Tensor logits, HeadOf(work, rows, vocab_size, logits_));
  // What the answering model has no token for is no guess.
  logits.cols = std::min<int64_t>(logits.cols, options_.vocab_size);
  std::vector<SampleRow> draws(n);
  for (int64_t i = 0; i < n; ++i) {
    const DraftRequest& request = *requests[i];
    draws[i].row = i;
    draws[i].position = request.position + static_cast<int32_t>(request.drafts.size()) + 1;
    draws[i].params = &slots_->at(request.slot).draft_sampling;
  }
  std::vector<SampledToken> tokens(n);
  work.device->ops().Sample(logits, draws, absl::MakeSpan(tokens));
  for (int64_t i = 0; i < n; ++i) requests[i]->drafts.push_back(std::max(tokens[i].id, 0));
  return absl::OkStatus();
}

void Drafter::DropDone(std::vector<DraftRequest*>& requests) {
  std::erase_if(requests, [](const DraftRequest* r) {
    return static_cast<int32_t>(r->drafts.size()) == r->num_drafts;
  });
}

void Drafter::FillUp(absl::Span<DraftRequest> requests) {
  for (DraftRequest& request : requests) {
    if (request.num_drafts > 0)
      request.drafts.resize(request.num_drafts, slots_->at(request.slot).tokens.back());
  }
}

}  // namespace penstock
