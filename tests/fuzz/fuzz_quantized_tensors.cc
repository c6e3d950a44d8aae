// libFuzzer target: a byte that picks a quantization_config, then any bytes as a safetensors file
// with a layer "l" of that form. Links penstock_model.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/quantized_rows.h"
#include "model/quantized_tensors.h"

namespace {

constexpr const char* kSections[] = {
    R"({"quant_method": "gptq", "bits": 4, "group_size": 16})",
    R"({"quant_method": "gptq", "bits": 8, "group_size": -1, "checkpoint_format": "gptq_v2"})",
    R"({"quant_method": "awq", "bits": 4, "group_size": 16})",
    R"({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"a": {
        "weights": {"num_bits": 4, "strategy": "group", "group_size": 16, "symmetric": false}}}})",
    R"({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"a": {
        "weights": {"num_bits": 8, "strategy": "channel", "symmetric": false}}}})",
    R"({"quant_method": "fp8", "weight_block_size": [10, 16]})",
    R"({"quant_method": "fp8"})",
    R"({"quant_method": "mxfp4"})",
};
constexpr size_t kNumSections = sizeof kSections / sizeof *kSections;

/// The bytes as a file that has a path while `fd` is open.
int FileOf(const uint8_t* data, size_t size) {
  const int fd = ::memfd_create("fuzz", MFD_CLOEXEC);
  for (size_t done = 0; fd >= 0 && done < size;) {
    const ssize_t n = ::write(fd, data + done, size - done);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  return fd;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t which = data[0] % kNumSections;
  const auto config = penstock::ParseQuantizationConfig(
      std::string("{\"quantization_config\": ") + kSections[which] + "}", "fuzz");
  const int fd = FileOf(data + 1, size - 1);
  auto files = penstock::Safetensors::OpenFile("/proc/self/fd/" + std::to_string(fd));
  ::close(fd);
  if (!config.ok() || !files.ok()) return 0;
  const bool stacked = which == kNumSections - 1;
  const std::vector<int64_t> shape =
      stacked ? std::vector<int64_t>{2, 16, 32} : std::vector<int64_t>{16, 40};
  const auto matrix =
      penstock::FindQuantized(std::make_shared<const penstock::Safetensors>(*std::move(files)),
                              *config, "l", shape, stacked ? 1 : -1);
  if (!matrix.ok() || *matrix == nullptr) return 0;
  std::vector<float> values(shape.end()[-2] * shape.back());
  penstock::Dequantize(**matrix, 0, shape.end()[-2], values.data());
  return 0;
}
