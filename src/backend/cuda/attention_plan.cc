#include "backend/cuda/attention_plan.h"

#include <algorithm>
#include <numeric>

namespace penstock {
namespace {

constexpr int64_t kItemsPerCta = 4;
constexpr int32_t kSmallestChunk = 256;

/// Vectors of one sequence that a tile takes, for every KV head alike.
struct Tile {
  const SequenceRows* sequence;
  int32_t begin;  // vectors
  int32_t count;
  int32_t size;
  int32_t kv_begin;
  int32_t kv_end;
};

int32_t TileOf(int32_t vectors, int32_t widest) {
  const int32_t wanted = vectors <= 16 ? 16 : vectors <= 64 ? 64 : 128;
  return std::min(wanted, widest);
}

std::vector<Tile> CutTiles(const AttentionPlanOptions& options,
                           absl::Span<const SequenceRows> sequences) {
  std::vector<Tile> tiles;
  for (const SequenceRows& s : sequences) {
    const int32_t vectors = s.num_rows * options.group;
    for (int32_t begin = 0; begin < vectors;) {
      const int32_t size = TileOf(vectors - begin, options.widest_tile);
      const int32_t count = std::min(size, vectors - begin);
      const int32_t first = s.position_begin + begin / options.group;
      const int32_t last = s.position_begin + (begin + count - 1) / options.group;
      const bool cut = options.window > 0 && first >= options.window;
      const int32_t end = options.sees_all != 0 ? s.position_begin + s.num_rows : last + 1;
      tiles.push_back({&s, begin, count, size, cut ? first - options.window + 1 : 0, end});
      begin += count;
    }
  }
  return tiles;
}

int64_t ChunksOf(const Tile& tile, int32_t chunk) {
  return chunk == 0 ? 1 : (tile.kv_end - 1) / chunk - tile.kv_begin / chunk + 1;
}

/// The smallest with few enough items; 0 where none is.
int32_t ChooseChunk(const AttentionPlanOptions& options, const std::vector<Tile>& tiles) {
  if (options.chunk > 0) return options.chunk;
  int32_t longest = 0;
  for (const Tile& tile : tiles) longest = std::max(longest, tile.kv_end);
  for (int64_t chunk = kSmallestChunk; chunk < longest; chunk *= 2) {
    int64_t items = 0;
    for (const Tile& tile : tiles) items += ChunksOf(tile, static_cast<int32_t>(chunk));
    if (items * options.num_kv_heads <= kItemsPerCta * options.num_ctas) {
      return static_cast<int32_t>(chunk);
    }
  }
  return 0;
}

void MakeItems(const AttentionPlanOptions& options, const std::vector<Tile>& tiles,
               AttentionPlan& plan) {
  for (const Tile& tile : tiles) {
    plan.widest_tile = std::max(plan.widest_tile, tile.size);
    const int64_t chunks = ChunksOf(tile, plan.chunk);
    const int32_t row = tile.begin / options.group;
    AttentionItem item;
    item.slot = tile.sequence->slot;
    item.row_begin = tile.sequence->row_begin + row;
    // After all of them, where none is to be hidden.
    item.position = options.sees_all != 0 ? tile.kv_end : tile.sequence->position_begin + row;
    item.head_begin = tile.begin % options.group;
    item.num_vectors = tile.count;
    item.tile = tile.size;
    for (int32_t head = 0; head < options.num_kv_heads; ++head) {
      item.kv_head = head;
      if (chunks > 1) {
        plan.merges.push_back({head, item.row_begin, item.head_begin, tile.count, plan.num_partials,
                               static_cast<int32_t>(chunks)});
      }
      for (int32_t begin = tile.kv_begin; begin < tile.kv_end; begin = item.kv_end) {
        const int64_t next =
            plan.chunk == 0 ? tile.kv_end : (int64_t{begin} / plan.chunk + 1) * plan.chunk;
        item.kv_begin = begin;
        item.kv_end = static_cast<int32_t>(std::min<int64_t>(tile.kv_end, next));
        item.partial = chunks > 1 ? plan.num_partials : -1;
        if (chunks > 1) plan.num_partials += tile.count;
        plan.items.push_back(item);
      }
    }
  }
}

/// The longest first, each to the CTA that has the least so far.
void Distribute(const AttentionPlanOptions& options, AttentionPlan& plan) {
  struct Costed {
    int64_t cost;
    int32_t item;
    int32_t cta;
  };
  std::vector<Costed> order(plan.items.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = {AttentionCost(options, plan.items[i]), static_cast<int32_t>(i), 0};
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Costed& a, const Costed& b) { return a.cost > b.cost; });
  struct Load {
    int64_t cost;
    int32_t cta;
  };
  std::vector<Load> loads(options.num_ctas);
  for (int32_t c = 0; c < options.num_ctas; ++c) loads[c] = {0, c};
  const auto more = [](const Load& a, const Load& b) {
    return a.cost != b.cost ? a.cost > b.cost : a.cta > b.cta;
  };
  for (Costed& next : order) {  // `loads` is a heap: in the order of the CTAs it is one
    std::pop_heap(loads.begin(), loads.end(), more);
    next.cta = loads.back().cta;
    loads.back().cost += next.cost;
    std::push_heap(loads.begin(), loads.end(), more);
    ++plan.cta_begin[next.cta + 1];
  }
  std::partial_sum(plan.cta_begin.begin(), plan.cta_begin.end(), plan.cta_begin.begin());
  std::vector<int32_t> at(plan.cta_begin.begin(), plan.cta_begin.end() - 1);
  std::vector<AttentionItem> items(plan.items.size());
  for (const Costed& next : order) items[at[next.cta]++] = plan.items[next.item];
  plan.items.swap(items);
}

}  // namespace

int64_t AttentionCost(const AttentionPlanOptions& options, const AttentionItem& item) {
  // A tile of 16 waits for memory, one of 128 computes; each also begins and ends.
  constexpr int64_t kToBeginAndEnd = 192;
  const int32_t step = options.positions_at_a_time;
  const int64_t steps = (item.kv_end + step - 1) / step - item.kv_begin / step;
  return steps * step * (item.tile == 128 ? 4 : 3) + kToBeginAndEnd;
}

void PlanAttention(const AttentionPlanOptions& options, absl::Span<const SequenceRows> sequences,
                   AttentionPlan& plan) {
  const std::vector<Tile> tiles = CutTiles(options, sequences);
  plan.widest_tile = 16;
  plan.chunk = ChooseChunk(options, tiles);
  plan.num_partials = 0;
  plan.cta_begin.assign(options.num_ctas + 1, 0);
  plan.items.clear();
  plan.merges.clear();
  MakeItems(options, tiles, plan);
  Distribute(options, plan);
}

AttentionPlanBounds BoundAttentionPlan(const AttentionPlanOptions& options, int64_t max_rows,
                                       int64_t max_sequences, int64_t max_positions) {
  // A sequence's last tile may be a part of one.
  const int64_t vectors = max_rows * options.group;
  const int64_t tiles =
      std::min(vectors, vectors / options.widest_tile + std::min(max_rows, max_sequences));
  const int64_t whole = tiles * options.num_kv_heads;
  AttentionPlanBounds bounds;
  bounds.merges = whole;
  if (options.chunk > 0) {
    int64_t chunks = (max_positions + options.chunk - 1) / options.chunk;
    if (options.window > 0) {
      const int64_t span = options.window + (options.widest_tile - 1) / options.group + 1;
      chunks = std::min(chunks, (span + options.chunk - 2) / options.chunk + 1);
    }
    bounds.items = whole * std::max<int64_t>(chunks, 1);
    bounds.partials = chunks > 1 ? vectors * options.num_kv_heads * chunks : 0;
    return bounds;
  }
  const int64_t split = kItemsPerCta * options.num_ctas;
  bounds.items = std::max(whole, split);
  bounds.partials = split * std::min<int64_t>(options.widest_tile, vectors);
  return bounds;
}

}  // namespace penstock
