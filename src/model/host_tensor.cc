#include "model/host_tensor.h"

#include <cstring>
#include <memory>
#include <utility>

#include "base/half.h"

namespace penstock {
namespace {

int64_t NumElements(const HostTensor& t) {
  int64_t size = 1;
  for (const int64_t dim : t.shape) size *= dim;
  return size;
}

}  // namespace

std::vector<float> Widen(const HostTensor& t) {
  const int64_t size = NumElements(t);
  std::vector<float> values(size);
  const char* p = static_cast<const char*>(t.data);
  if (t.dtype == DType::kFloat32) {
    std::memcpy(values.data(), p, size * sizeof(float));
    return values;
  }
  for (int64_t i = 0; i < size; ++i) {
    uint16_t h;
    std::memcpy(&h, p + i * 2, sizeof h);
    values[i] = t.dtype == DType::kBFloat16 ? Bf16ToFloat(h) : Fp16ToFloat(h);
  }
  return values;
}

/// [k, rows] -> [rows, k]
HostTensor Transposed(const HostTensor& t) {
  const int64_t k = t.shape[0];
  const int64_t rows = t.shape[1];
  const size_t size = DTypeSize(t.dtype);
  auto bytes = std::make_shared<std::vector<char>>(k * rows * size);
  const char* from = static_cast<const char*>(t.data);
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(bytes->data() + (r * k + i) * size, from + (i * rows + r) * size, size);
    }
  }
  return {t.dtype, {rows, k}, bytes->data(), bytes};
}

HostTensor SliceRows(const HostTensor& t, int64_t begin, int64_t count) {
  const int64_t row_bytes = NumElements(t) / t.shape[0] * static_cast<int64_t>(DTypeSize(t.dtype));
  HostTensor slice = t;
  slice.data = static_cast<const char*>(t.data) + begin * row_bytes;
  slice.shape[0] = count;
  return slice;
}

HostTensor Element(const HostTensor& t, int64_t index) {
  HostTensor element = SliceRows(t, index, 1);
  element.shape.erase(element.shape.begin());
  return element;
}

}  // namespace penstock
