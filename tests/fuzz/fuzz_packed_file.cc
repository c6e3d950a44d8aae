// libFuzzer target: any bytes as the header and as the index of a file of packed weights. Links
// penstock_backend.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "backend/cpu/packed_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), size);
  std::vector<std::byte> page(penstock::kPackedPage);
  std::copy_n(bytes.begin(), std::min(bytes.size(), page.size()), page.begin());
  const auto header = penstock::ParsePackedHeader(page, penstock::kPackedPage * 4);
  if (header.ok() && header->index_begin + header->index_bytes != penstock::kPackedPage * 4)
    abort();
  if (size < 8) return 0;
  int64_t index_begin = 0;
  std::memcpy(&index_begin, data, sizeof index_begin);
  const auto layers = penstock::ParsePackedIndex(bytes.subspan(8), index_begin);
  if (!layers.ok()) return 0;
  int64_t at = penstock::kPackedPage;
  for (const penstock::PackedLayer& layer : *layers) {  // what is read lies in the file
    at += penstock::PackedPages(layer.weight.bytes) + penstock::PackedPages(layer.bias.bytes);
  }
  if (at != index_begin) abort();
  return 0;
}
