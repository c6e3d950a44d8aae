#include "executor/draft_runner.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "executor/head_rows.h"
#include "model/decoder.h"
#include "model/rope.h"

namespace penstock {
namespace {

// Tables of embeddings are padded to this or that multiple; beyond such a difference it is another
// vocabulary.
constexpr int32_t kMostPadding = 512;

absl::Status Suits(const ModelConfig& draft, const DraftRunnerOptions& options) {
  const auto no = [](const auto&... why) {
    return absl::InvalidArgumentError(absl::StrCat("cannot draft: ", why...));
  };
  if (draft.encoder.present) return no("the model is an encoder");
  if (std::abs(draft.vocab_size - options.vocab_size) > kMostPadding) {
    return no("it has a vocabulary of ", draft.vocab_size, " tokens, the model it would guess for ",
              options.vocab_size);
  }
  if (draft.context() < options.cache.max_len) {
    return no("it has ", draft.context(), " positions, engine.max_len is ", options.cache.max_len);
  }
  for (const LayerConfig& layer : draft.layers) {
    if (layer.recurrent || layer.window > 0)
      return no("layers with windows or recurrent states are not supported in a draft model");
  }
  for (const RopeConfig& rope : draft.ropes) {
    if (RopeSplit(rope, options.cache.max_len) > 0)
      return no("rope type longrope is not supported in a draft model");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DraftRunner>> DraftRunner::Make(LoadedModel* model,
                                                               const DraftRunnerOptions& options) {
  RETURN_IF_ERROR(Suits(model->config, options));
  std::unique_ptr<DraftRunner> r(new DraftRunner());
  r->model_ = model;
  r->options_ = options;
  ASSIGN_OR_RETURN(KvCache cache, KvCache::Make(model->config, options.cache, *model->device));
  r->cache_ = std::make_unique<KvCache>(std::move(cache));
  ASSIGN_OR_RETURN(r->network_, Decoder::Make(&model->config, &model->weights, model->device.get(),
                                              options.dtype, options.cache.max_step_tokens,
                                              options.cache.max_len, /*adapter_columns=*/0));
  r->filled_.resize(r->group().num_blocks);
  return r;
}

CacheGroup DraftRunner::group() const {
  CacheGroup group = cache_->groups().front();
  group.retention = CacheRetention::kDraft;
  return group;
}

void DraftRunner::UseSlots(SlotTable* slots, int32_t group) {
  slots_ = slots;
  group_ = group;
  layers_.clear();
  for (size_t i = 0; i < model_->config.layers.size(); ++i) {
    LayerCache layer;
    layer.kv = cache_->layer(i, slots->tables(group), slots->max_blocks());
    layers_.push_back(layer);
  }
}

BlockId DraftRunner::BlockOf(SlotId slot, int32_t index) const {
  return slots_->tables(group_)[int64_t{slot.value} * slots_->max_blocks() + index];
}

void DraftRunner::NoteBlocks(SlotId id, int32_t first, int32_t begin) {
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

void DraftRunner::AddRows(SlotId id, int32_t end, bool known) {
  const int32_t size = options_.cache.block_size;
  Slot& slot = slots_->at(id);
  const auto row_begin = static_cast<int32_t>(ids_.size());
  sequences_.push_back({id.value, row_begin, end - slot.draft_end, slot.draft_end});
  for (int32_t p = slot.draft_end; p < end; ++p) {
    const TokenId token = slot.tokens[p];
    ids_.push_back(token >= 0 && token < model_->config.vocab_size ? token : 0);
    positions_.push_back(p);
    row_slots_.push_back(id.value);
    if (known) filled_[BlockOf(id, p / size)] = p % size + 1;
  }
  slot.draft_end = end;
}

void DraftRunner::Forward() {
  BatchRows batch;
  batch.num_rows = static_cast<int32_t>(ids_.size());
  batch.ids = ids_.data();
  batch.positions = positions_.data();
  batch.slots = row_slots_.data();
  batch.sequences = sequences_;
  network_->Forward(batch, layers_, {});
}

absl::Status DraftRunner::Draw(absl::Span<DraftRequest* const> requests,
                               absl::Span<const int32_t> rows) {
  const auto n = static_cast<int64_t>(requests.size());
  const HeadWork work{network_.get(), model_->device.get(), options_.dtype,
                      model_->config.hidden_size, &gathered_};
  ASSIGN_OR_RETURN(Tensor logits, HeadOf(work, rows, model_->config.vocab_size, logits_));
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
  model_->device->ops().Sample(logits, draws, absl::MakeSpan(tokens));
  for (int64_t i = 0; i < n; ++i) requests[i]->drafts.push_back(std::max(tokens[i].id, 0));
  return absl::OkStatus();
}

absl::Status DraftRunner::Run(absl::Span<DraftRequest> requests) {
  std::vector<DraftRequest*> guessing;
  std::vector<int32_t> rows;  // the last of each of them
  ids_.clear();
  positions_.clear();
  row_slots_.clear();
  sequences_.clear();
  for (DraftRequest& request : requests) {
    Slot& slot = slots_->at(request.slot);
    slot.draft_end = std::min(slot.draft_end, request.position);  // what was guessed wrong is gone
    const int32_t room = options_.cache.max_step_tokens - static_cast<int32_t>(ids_.size());
    const int32_t end = std::min(request.position + 1, slot.draft_end + room);
    if (end > slot.draft_end) AddRows(request.slot, end, /*known=*/true);
    if (end == request.position + 1 && request.num_drafts > 0) {
      guessing.push_back(&request);
      rows.push_back(static_cast<int32_t>(ids_.size()) - 1);
    }
  }
  while (!ids_.empty()) {
    Forward();
    if (!guessing.empty()) RETURN_IF_ERROR(Draw(guessing, rows));
    ids_.clear();
    positions_.clear();
    row_slots_.clear();
    sequences_.clear();
    rows.clear();
    std::erase_if(guessing, [](const DraftRequest* r) {
      return static_cast<int32_t>(r->drafts.size()) == r->num_drafts;
    });
    for (DraftRequest* request : guessing) {
      Slot& slot = slots_->at(request->slot);
      slot.tokens.push_back(request->drafts.back());
      AddRows(request->slot, slot.draft_end + 1, /*known=*/false);
      rows.push_back(static_cast<int32_t>(ids_.size()) - 1);
    }
  }
  for (DraftRequest& request : requests) {
    if (request.num_drafts == 0) continue;
    Slot& slot = slots_->at(request.slot);
    slot.tokens.resize(request.position + 1);  // guesses are not known
    request.drafts.resize(request.num_drafts, slot.tokens.back());
  }
  return absl::OkStatus();
}

}  // namespace penstock
