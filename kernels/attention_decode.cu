#include "kernels/attention_decode.cuh"
#include "kernels/launch.h"

namespace penstock::PENSTOCK_KERNELS {
namespace {

bool IsAligned(const void* p, uintptr_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

/// Whether rows can be read by pairs and written by fours of elements, and units of the cache by 16
/// bytes.
bool CanServe(const AttentionArgs& a) {
  const RowCache& c = a.cache;
  const int64_t bytes = c.element == Element::kInt8 ? 1 : 2;
  return a.head_dim >= 4 && a.head_dim <= 512 && a.head_dim % 4 == 0 && a.group >= 1 &&
         a.q_stride % 2 == 0 && a.y_stride % 4 == 0 && IsAligned(a.q, 4) && IsAligned(a.y, 8) &&
         IsAligned(a.partials, 16) && (c.element == a.element || c.element == Element::kInt8) &&
         (c.key_unit == 1 || c.key_unit == kUnitPositions) && c.block_size % kUnitPositions == 0 &&
         IsAligned(c.data, 16) && c.block_stride * bytes % 16 == 0 &&
         c.kv_stride * bytes % 16 == 0 && c.head_stride * bytes % 16 == 0 && c.scales_at % 4 == 0;
}

}  // namespace

cudaError_t LaunchDecode(const AttentionArgs& a, cudaStream_t stream) {
  return ForAttentionInstance(a, [&](auto* type, auto dim) {
    using T = std::remove_pointer_t<decltype(type)>;
    return LaunchDecodeInstance<T, T, dim()>(a, stream);
  });
}

cudaError_t LaunchAttention(const AttentionArgs& a, cudaStream_t stream) {
  if (!CanServe(a)) return cudaErrorInvalidValue;
  const int32_t unit = a.cache.kv_stride == 0 ? 1 : a.cache.key_unit;
  if (a.widest_tile > WidestAttentionTile(a.head_dim, unit)) {
    return cudaErrorInvalidValue;
  }
  if (a.num_ctas == 0) return cudaSuccess;
  const bool bytes = a.cache.element == Element::kInt8;
  if (a.widest_tile > 16) return bytes ? LaunchMixedBytes(a, stream) : LaunchMixed(a, stream);
  return bytes ? LaunchDecodeBytes(a, stream) : LaunchDecode(a, stream);
}

}  // namespace penstock::PENSTOCK_KERNELS
