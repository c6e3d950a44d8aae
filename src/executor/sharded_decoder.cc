#include "executor/sharded_decoder.h"

#include <utility>

#include "backend/make_backend.h"
#include "base/status_macros.h"

namespace penstock {

ShardedDecoder::ShardedDecoder(LoadedModel* model, ShardedOptions options)
    : model_(model),
      options_(std::move(options)),
      progress_(std::make_shared<ShardProgress>(model->ranks.size())) {}

absl::StatusOr<std::unique_ptr<ShardedDecoder>> ShardedDecoder::Make(
    LoadedModel* model, const ShardedOptions& options) {
  std::unique_ptr<ShardedDecoder> d(new ShardedDecoder(model, options));
  std::vector<Device*> devices;
  for (const LoadedRank& part : model->ranks) devices.push_back(part.device);
  ASSIGN_OR_RETURN(d->collective_, MakeCollective(devices, options.patience));
  KvCacheOptions cache = options.cache;
  cache.budget_bytes /= static_cast<int64_t>(model->ranks.size());
  for (LoadedRank& part : model->ranks) {
    const auto rank = static_cast<int32_t>(d->ranks_.size());
    Rank& own = d->ranks_.emplace_back();
    ASSIGN_OR_RETURN(KvCache made, KvCache::Make(part.config, cache, *part.device));
    own.cache = std::make_unique<KvCache>(std::move(made));
    ASSIGN_OR_RETURN(own.decoder, Decoder::Make(&part.config, &part.weights, part.device,
                                                options.dtype, options.max_rows, cache.max_len, 0,
                                                RankLink{d->collective_.get(), rank}));
  }
  for (LoadedRank& part : model->ranks) {
    const auto rank = static_cast<int32_t>(d->loops_.size());
    d->loops_.push_back(
        std::make_unique<ShardLoop>(rank, d->collective_.get(), part.pool.get(), d->progress_));
  }
  return d;
}

ShardedDecoder::~ShardedDecoder() { StopRanks(*progress_); }

std::vector<CacheGroup> ShardedDecoder::groups() const {
  std::vector<CacheGroup> groups = ranks_[0].cache->groups();
  for (CacheGroup& group : groups) group.block_bytes *= static_cast<int64_t>(ranks_.size());
  return groups;
}

void ShardedDecoder::UseSlots(const SlotTable& slots) {
  for (Rank& rank : ranks_) {
    for (size_t i = 0; i < model_->config.layers.size(); ++i) {
      LayerCache layer;
      layer.kv = rank.cache->layer(i, slots.tables(rank.cache->group_of(i)), slots.max_blocks());
      rank.layers.push_back(layer);
    }
  }
}

void ShardedDecoder::RunAll(const ShardLoop::Work& work) {
  if (!collective_->ok()) return;
  RunOnRanks(*progress_, *collective_, collective_->patience(), work, stalled_)
      .IgnoreError();  // status()
  for (const int32_t rank : stalled_) loops_[rank]->Abandon();
}

void ShardedDecoder::Forward(const BatchRows& batch, absl::Span<const LayerCache>,
                             absl::Span<const AdaptedRows> adapted) {
  CHECK(adapted.empty());
  batch_ = batch;
  RunAll([this](int32_t rank) {
    if (options_.before_pass) options_.before_pass(rank);
    ranks_[rank].decoder->Forward(batch_, ranks_[rank].layers, {});
  });
}

void ShardedDecoder::FinalNorm(const Tensor& x, const Tensor& y) {
  if (!collective_->ok()) return;  // rank 0 may never give its threads back
  ranks_[0].decoder->FinalNorm(x, y);
}

void ShardedDecoder::Logits(const Tensor& x, absl::Span<const int32_t> /*rows*/,
                            const Tensor& logits) {
  head_in_ = x;
  head_out_ = logits;
  // Rows and logits are rank 0's: what ranks enqueue on devices of their own is put in order.
  const bool enqueued = !model_->device->shares_host_memory();
  RunAll([this, enqueued](int32_t rank) {
    if (enqueued && !collective_->Barrier(rank).ok()) return;
    const ModelWeights& weights = model_->ranks[rank].weights;
    const Tensor own = ColumnsOf(head_out_, weights.vocab_begin, weights.lm_head.n);
    ranks_[rank].decoder->Logits(head_in_, {}, own);
    if (enqueued) collective_->Barrier(rank).IgnoreError();  // status()
  });
}

}  // namespace penstock
