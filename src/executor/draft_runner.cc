#include "executor/draft_runner.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/decoder.h"
#include "model/rope.h"

namespace penstock {
namespace {

// Tables of embeddings are padded to this or that multiple; beyond such a difference it is another
// vocabulary.
constexpr int32_t kMostPadding = 512;

absl::Status Suits(const ModelConfig& draft, const DrafterOptions& options) {
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
                                                               const DrafterOptions& options) {
  RETURN_IF_ERROR(Suits(model->config, options));
  std::unique_ptr<DraftRunner> r(new DraftRunner(model, options));
  RETURN_IF_ERROR(r->MakeCache(model->config));
  ASSIGN_OR_RETURN(r->network_, Decoder::Make(&model->config, &model->weights, model->device.get(),
                                              options.dtype, options.cache.max_step_tokens,
                                              options.cache.max_len, /*adapter_columns=*/0));
  return r;
}

void DraftRunner::AddRows(SlotId id, int32_t end, bool known) {
  Slot& slot = slots_->at(id);
  for (int32_t p = slot.draft_end; p < end; ++p) {
    const TokenId token = slot.tokens[p];
    pass_.Add(id, p, token >= 0 && token < model_->config.vocab_size ? token : 0);
    if (known) NoteFilled(id, p);
  }
  slot.draft_end = end;
}

HeadWork DraftRunner::Head() {
  return {network_.get(), model_->device.get(), options_.dtype, model_->config.hidden_size,
          &gathered_};
}

absl::Status DraftRunner::Run(absl::Span<DraftRequest> requests) {
  std::vector<DraftRequest*> guessing;
  std::vector<int32_t> rows;  // the last of each of them
  pass_.Clear();
  for (DraftRequest& request : requests) {
    Slot& slot = slots_->at(request.slot);
    slot.draft_end = std::min(slot.draft_end, request.position);  // what was guessed wrong is gone
    const int32_t room = options_.cache.max_step_tokens - pass_.num_rows();
    const int32_t end = std::min(request.position + 1, slot.draft_end + room);
    if (end > slot.draft_end) AddRows(request.slot, end, /*known=*/true);
    if (end == request.position + 1 && request.num_drafts > 0) {
      guessing.push_back(&request);
      rows.push_back(pass_.num_rows() - 1);
    }
  }
  while (pass_.num_rows() > 0) {
    network_->Forward(pass_.batch(), layers_, {});
    if (!guessing.empty()) RETURN_IF_ERROR(Draw(Head(), model_->config.vocab_size, guessing, rows));
    pass_.Clear();
    rows.clear();
    DropDone(guessing);
    for (DraftRequest* request : guessing) {
      Slot& slot = slots_->at(request->slot);
      slot.tokens.push_back(request->drafts.back());
      AddRows(request->slot, slot.draft_end + 1, /*known=*/false);
      rows.push_back(pass_.num_rows() - 1);
    }
  }
  for (DraftRequest& request : requests) {  // guesses are not known
    if (request.num_drafts > 0) slots_->at(request.slot).tokens.resize(request.position + 1);
  }
  FillUp(requests);
  return absl::OkStatus();
}

}  // namespace penstock
