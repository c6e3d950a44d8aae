// libFuzzer target: any bytes as a model.safetensors.index.json. Links penstock_format.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto index = penstock::ParseShardIndex(text, "fuzz");
  if (!index.ok()) return 0;
  for (const auto& [name, shard] :
       *index) {  // which is opened in the model's directory, not beside
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != shard.npos ||
        std::strlen(shard.c_str()) != shard.size()) {
      std::abort();
    }
  }
  return 0;
}
