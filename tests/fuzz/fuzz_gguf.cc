// libFuzzer target: any bytes as a GGUF file. Links penstock_format.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "format/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), size);
  const auto contents = penstock::ParseGguf(bytes, "fuzz", 0);
  if (!contents.ok()) return 0;
  volatile double sink = 0;
  for (const auto& [key, value] : contents->metadata) {
    for (uint64_t i = 0; value.is_integer() && i < value.size; ++i) sink = sink + value.Int(i);
    for (const std::byte b : value.data) sink = sink + static_cast<uint8_t>(b);
  }
  for (const auto& [name, tensor] : contents->tensors) {
    for (const std::byte b : tensor.data) sink = sink + static_cast<uint8_t>(b);
    if (!penstock::IsDecodedGgmlType(tensor.type)) continue;
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
    std::vector<float> values(rows * tensor.shape.back());
    penstock::DequantizeGgmlRows(tensor.type, tensor.data.data(), rows, tensor.shape.back(),
                                 values.data());
  }
  return 0;
}
