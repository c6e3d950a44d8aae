// A model runner from a loaded model: its caches, slots and network.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "executor/check_device.h"
#include "executor/draft_runner.h"
#include "executor/model_runner.h"
#include "executor/prediction_runner.h"
#include "executor/sharded_decoder.h"
#include "model/decoder.h"
#include "model/encoder.h"
#include "model/rope.h"

namespace penstock {
namespace {

/// Without the share of what guesses: both hold about as many positions.
int64_t KvBytesOf(const LoadedModel& model, const RunnerOptions& options) {
  const ModelConfig* draft = DraftConfig(model, options);
  if (draft == nullptr) return options.kv_bytes;
  const auto own = static_cast<double>(CacheBytesPerToken(model.config, options.kv_dtype));
  const auto drafts = static_cast<double>(CacheBytesPerToken(*draft, options.kv_dtype));
  const int64_t states =
      std::min(options.kv_bytes, StateBytes(model.config) * int64_t{options.num_slots});
  const auto shared = static_cast<double>(options.kv_bytes - states);
  return states + static_cast<int64_t>(shared * own / (own + drafts));
}

absl::StatusOr<std::unique_ptr<Drafter>> MakeDraftRunner(LoadedModel* draft,
                                                         const DrafterOptions& options) {
  absl::StatusOr<std::unique_ptr<Drafter>> made = DraftRunner::Make(draft, options);
  if (made.ok()) return made;
  return absl::Status(made.status().code(),
                      absl::StrCat("engine.speculation.draft_model: ", made.status().message()));
}

}  // namespace

const ModelConfig* DraftConfig(const LoadedModel& model, const RunnerOptions& options) {
  if (options.draft != nullptr) return &options.draft->config;
  return model.head != nullptr && options.max_drafts > 0 ? &model.head->config : nullptr;
}

absl::StatusOr<std::unique_ptr<ModelRunner>> ModelRunner::Make(LoadedModel* model,
                                                               const RunnerOptions& options) {
  const ModelConfig& config = model->config;
  RETURN_IF_ERROR(CheckDTypes(options.dtype, options.kv_dtype, model->abilities,
                              std::string(model->device->name())));
  std::unique_ptr<ModelRunner> r(new ModelRunner());
  r->model_ = model;
  r->options_ = options;
  if (options.max_len > config.context()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_len is ", options.max_len, ", the model has ", config.context(), " positions"));
  }
  ExecutorLimits& limits = r->limits_;
  limits.block_size = options.block_size;
  limits.num_slots = options.num_slots;
  limits.pipeline_depth = options.pipeline_depth;
  limits.max_step_tokens = options.max_step_tokens;
  limits.max_context = options.max_len > 0 ? options.max_len : config.context();
  limits.vocab_size = config.vocab_size;
  if (options.adapters != nullptr) limits.max_adapters = options.adapters->options().max_in_step;
  for (const RopeConfig& rope : config.ropes)
    limits.prefix_split = std::max(limits.prefix_split, RopeSplit(rope, limits.max_context));
  const KvCacheOptions kv{options.kv_dtype,   KvBytesOf(*model, options), options.block_size,
                          limits.max_context, options.max_step_tokens,    options.num_slots};
  if (!model->ranks.empty()) {
    RETURN_IF_ERROR(r->MakeRanks(kv));
    return r;
  }
  ASSIGN_OR_RETURN(KvCache cache, KvCache::Make(config, kv, *model->device));
  limits.groups = cache.groups();
  r->cache_ = std::make_unique<KvCache>(std::move(cache));
  if (DraftConfig(*model, options) != nullptr) RETURN_IF_ERROR(r->MakeDrafter());
  if (options.tier.bytes > 0) RETURN_IF_ERROR(r->MakeTier());
  r->slots_ = std::make_unique<SlotTable>(limits);
  if (r->drafts_ != nullptr)
    r->drafts_->UseSlots(r->slots_.get(), static_cast<int32_t>(limits.groups.size()) - 1);
  if (config.encoder.present) {
    limits.can_chunk = false;
    limits.max_step_tokens = std::max(limits.max_step_tokens, limits.max_context);
    ASSIGN_OR_RETURN(r->network_, Encoder::Make(&config, &model->weights, model->device.get(),
                                                options.dtype, limits.max_step_tokens));
    return r;
  }
  RETURN_IF_ERROR(r->MakeDecoder());
  return r;
}

absl::Status ModelRunner::MakeDecoder() {
  const ModelConfig& config = model_->config;
  ASSIGN_OR_RETURN(
      std::unique_ptr<Decoder> decoder,
      Decoder::Make(&config, &model_->weights, model_->device.get(), options_.dtype,
                    options_.max_step_tokens, limits_.max_context,
                    options_.adapters != nullptr ? options_.adapters->max_columns() : 0));
  if (drafts_ != nullptr && cache_->has_states()) {
    const RewindOptions rewind{options_.dtype, options_.max_step_tokens, options_.num_slots,
                               options_.max_drafts};
    ASSIGN_OR_RETURN(
        rewind_, StateRewind::Make(config, rewind, *cache_, decoder.get(), model_->device.get()));
  }
  network_ = std::move(decoder);
  for (size_t i = 0; i < config.layers.size(); ++i) {
    LayerCache layer;
    if (config.layers[i].recurrent) {
      layer.states = cache_->states(i);
      layer.state_stride = StateBytes(config) / static_cast<int64_t>(sizeof(float));
      layers_.push_back(layer);
      continue;
    }
    layer.kv = cache_->layer(i, slots_->tables(cache_->group_of(i)), slots_->max_blocks());
    layers_.push_back(layer);
  }
  return absl::OkStatus();
}

/// Only where all that a prefix needs is in blocks that are full once they are computed.
absl::Status ModelRunner::MakeTier() {
  std::vector<CacheGroup>& groups = limits_.groups;
  const bool all = std::all_of(groups.begin(), groups.end(), [](const CacheGroup& group) {
    return group.retention == CacheRetention::kFull || group.retention == CacheRetention::kWindow;
  });
  if (groups.empty() || !all) return absl::OkStatus();
  ASSIGN_OR_RETURN(tier_,
                   BlockTier::Make(options_.tier, cache_.get(), model_->device.get(), groups));
  return absl::OkStatus();
}

absl::Status ModelRunner::MakeRanks(const KvCacheOptions& kv) {
  if (options_.draft != nullptr || options_.adapters != nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("tensor_parallel: ", model_->ranks.size(), " is not served with ",
                     options_.draft != nullptr ? "a draft model" : "adapters"));
  }
  const ShardedOptions sharded{options_.dtype, options_.max_step_tokens, kv, options_.rank_patience,
                               options_.before_pass};
  ASSIGN_OR_RETURN(std::unique_ptr<ShardedDecoder> decoder, ShardedDecoder::Make(model_, sharded));
  limits_.groups = decoder->groups();
  slots_ = std::make_unique<SlotTable>(limits_);
  decoder->UseSlots(*slots_);
  network_ = std::move(decoder);
  return absl::OkStatus();
}

absl::Status ModelRunner::MakeDrafter() {
  if (limits_.groups.size() >= kMaxCacheGroups || model_->config.encoder.present)
    return absl::InvalidArgumentError("the model cannot be drafted for");
  DrafterOptions drafts;
  drafts.dtype = options_.draft != nullptr ? options_.draft_dtype : options_.dtype;
  drafts.cache = {options_.kv_dtype,        options_.kv_bytes - KvBytesOf(*model_, options_),
                  options_.block_size,      limits_.max_context,
                  options_.max_step_tokens, options_.num_slots};
  drafts.vocab_size = limits_.vocab_size;
  drafts.max_drafts = options_.max_drafts;
  if (options_.draft != nullptr) {
    ASSIGN_OR_RETURN(drafts_, MakeDraftRunner(options_.draft, drafts));
  } else {
    ASSIGN_OR_RETURN(drafts_, PredictionRunner::Make(model_, drafts));
  }
  limits_.groups.push_back(drafts_->group());
  limits_.max_model_drafts = options_.max_drafts;
  return absl::OkStatus();
}

}  // namespace penstock
