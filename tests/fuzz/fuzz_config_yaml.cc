// Any bytes as a configuration file: a tree or a one-line error.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "config/load_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config =
      penstock::LoadConfig({.file_name = "f",
                            .file_text = std::string(reinterpret_cast<const char*>(data), size),
                            .environment = {},
                            .assignments = {}});
  if (config.ok()) {
    (void)penstock::ValidateConfig(*config, true);
  } else if (config.status().message().empty()) {
    std::abort();
  }
  return 0;
}
