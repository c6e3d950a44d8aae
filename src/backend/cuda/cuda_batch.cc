#include "backend/cuda/cuda_batch.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/cuda_types.h"
#include "backend/cuda/linear_table.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

constexpr size_t kMostTables = 2 * kMaxCacheGroups;
constexpr size_t kMostPlans = 8;
// With wider ones a row's last bits depend on the rows beside it.
constexpr int32_t kInvariantTile = 16;

template <class T>
bool SameBytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}
static_assert(sizeof(AttentionPlanOptions) == 8 * sizeof(int32_t), "it is compared as bytes");
static_assert(sizeof(SequenceRows) == 4 * sizeof(int32_t), "they are compared as bytes");

}  // namespace

CudaBatch::Tables& CudaBatch::TablesOf(const BatchRows& batch, const KvLayer& cache) {
  auto it = std::find_if(tables_.begin(), tables_.end(),
                         [&](const auto& t) { return t->of == cache.tables; });
  if (it == tables_.end()) {
    if (tables_.size() >= kMostTables) tables_.erase(tables_.begin());
    it = tables_.insert(tables_.end(), std::make_unique<Tables>());
    (*it)->of = cache.tables;
  }
  Tables& t = **it;
  t.begins.clear();
  t.blocks.clear();
  t.row_begins.assign(batch.num_rows, 0);
  for (const SequenceRows& s : batch.sequences) {
    const auto begin = static_cast<int32_t>(t.blocks.size());
    const int32_t count = (s.position_begin + s.num_rows + cache.block_size - 1) / cache.block_size;
    const BlockId* of_slot = cache.tables + int64_t{s.slot} * cache.max_blocks;
    t.blocks.insert(t.blocks.end(), of_slot, of_slot + count);
    t.begins.push_back(begin);
    std::fill_n(t.row_begins.begin() + s.row_begin, s.num_rows, begin);
  }
  return t;
}

RowCache CudaBatch::CacheOf(const KvLayer& cache, Tables& tables) {
  RowCache c;
  c.data = cache.data;
  c.block_stride = cache.block_stride;
  c.kv_stride = cache.kv_stride;
  c.head_stride = cache.head_stride;
  c.scales_at = cache.scales_at;
  c.block_size = cache.block_size;
  c.key_unit = cache.kv_stride == 0 ? 1 : kCacheUnit;
  c.tables = tables.sent_blocks.Send(staging_, tables.blocks);
  c.max_blocks = 1;  // a "slot" is where a sequence's blocks begin
  c.element = ElementOf(cache.dtype);
  return c;
}

void CudaBatch::Fill(const BatchRows& batch, const KvLayer& cache, RopeArgs& args) {
  const auto rows = static_cast<size_t>(batch.num_rows);
  Tables& tables = TablesOf(batch, cache);
  args.rows = batch.num_rows;
  args.positions = positions_.Send(staging_, absl::MakeConstSpan(batch.positions, rows));
  if (batch.rope_rows != nullptr)
    args.rope_rows = rope_rows_.Send(staging_, absl::MakeConstSpan(batch.rope_rows, rows));
  args.slots = tables.sent_rows.Send(staging_, tables.row_begins);
  args.cache = CacheOf(cache, tables);
}

CudaBatch::Plan& CudaBatch::PlanOf(const AttentionPlanOptions& options,
                                   std::vector<SequenceRows> sequences) {
  const auto it = std::find_if(plans_.begin(), plans_.end(), [&](const auto& p) {
    return SameBytes(p->options, options) &&
           std::equal(p->sequences.begin(), p->sequences.end(), sequences.begin(), sequences.end(),
                      SameBytes<SequenceRows>);
  });
  if (it != plans_.end()) {
    std::rotate(it, it + 1, plans_.end());
    return *plans_.back();
  }
  if (plans_.size() < kMostPlans) {
    plans_.push_back(std::make_unique<Plan>());
  } else {
    std::rotate(plans_.begin(), plans_.begin() + 1, plans_.end());
  }
  Plan& p = *plans_.back();
  p.options = options;
  p.sequences = std::move(sequences);
  PlanAttention(options, p.sequences, p.plan);
  return p;
}

void CudaBatch::Fill(const BatchRows& batch, const KvLayer& cache, int32_t num_ctas, bool sees_all,
                     AttentionArgs& args) {
  Tables& tables = TablesOf(batch, cache);
  args.cache = CacheOf(cache, tables);
  std::vector<SequenceRows> sequences(batch.sequences.begin(), batch.sequences.end());
  for (size_t i = 0; i < sequences.size(); ++i) sequences[i].slot = tables.begins[i];
  AttentionPlanOptions options;
  options.num_kv_heads = args.num_kv_heads;
  options.group = args.group;
  options.window = args.window;
  options.num_ctas = num_ctas;
  options.sees_all = sees_all ? 1 : 0;
  const bool invariant = determinism_ == Determinism::kStrict || BucketOfRows(batch.num_rows) == 0;
  const int32_t widest = WidestAttentionTile(args.head_dim, args.cache.key_unit);
  options.widest_tile = invariant ? std::min(kInvariantTile, widest) : widest;
  options.chunk = invariant || determinism_ == Determinism::kRun ? kDeterministicChunk : 0;
  Plan& p = PlanOf(options, std::move(sequences));
  upload_.Clear();
  const auto num_merges = static_cast<int32_t>(p.plan.merges.size());
  upload_.Add<int32_t>(p.plan.cta_begin);
  p.items_at = upload_.Add<AttentionItem>(p.plan.items);
  p.merges_at = upload_.Add<AttentionMerge>(p.plan.merges);
  p.num_merges_at = upload_.Add<int32_t>({&num_merges, 1});
  const std::byte* sent = p.sent.Send(staging_, upload_.bytes());
  if (sent == nullptr) return;
  args.cta_begin = reinterpret_cast<const int32_t*>(sent);
  args.items = reinterpret_cast<const AttentionItem*>(sent + p.items_at);
  args.merges = reinterpret_cast<const AttentionMerge*>(sent + p.merges_at);
  args.num_merges = reinterpret_cast<const int32_t*>(sent + p.num_merges_at);
  args.num_ctas = num_ctas;
  args.merge_ctas = std::min(num_ctas, num_merges);
  args.widest_tile = p.plan.widest_tile;
  CudaStream& stream = staging_.stream();
  if (num_merges == 0) return;
  args.partials = partials_.Of<float>(stream, int64_t{p.plan.num_partials} * args.head_dim);
  args.partial_sums = partial_sums_.Of<float>(stream, p.plan.num_partials);
}

}  // namespace penstock::PENSTOCK_KERNELS
