// Views and copies of tensors on the host: widened, transposed, sliced.
// Owns nothing; a result keeps alive what it needs. Must not know what a tensor is for.
// Threads: value.
#pragma once

#include <cstdint>
#include <vector>

#include "model/tensor_source.h"

namespace penstock {

/// The values as float32, in order.
std::vector<float> Widen(const HostTensor& t);
/// [a, b] -> a copy [b, a] of the same type.
HostTensor Transposed(const HostTensor& t);
/// Rows [begin, begin + count) of [n, ...], a view.
HostTensor SliceRows(const HostTensor& t, int64_t begin, int64_t count);
/// Element `index` of [n, a, b] as [a, b], a view.
HostTensor Element(const HostTensor& t, int64_t index);

}  // namespace penstock
