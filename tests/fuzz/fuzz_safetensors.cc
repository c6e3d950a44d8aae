// libFuzzer target: any bytes as a safetensors file. Links penstock_format.
#include <cstddef>
#include <cstdint>

#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  penstock::Safetensors::Entries entries;
  const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), size);
  if (!penstock::ParseSafetensors(bytes, "fuzz", 0, entries).ok()) return 0;
  volatile uint8_t sink = 0;
  for (const auto& [name, entry] : entries) {
    for (const std::byte b : entry.data)
      sink = sink ^ static_cast<uint8_t>(b);  // every byte lies in the file
  }
  return 0;
}
