// libFuzzer target: any bytes as a GGUF file, as far as a loader reads it. Links penstock_model.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "model/gguf_config.h"
#include "model/gguf_source.h"
#include "model/model_config.h"

namespace {

void ReadAll(const penstock::Gguf& file) {
  volatile double sink = 0;
  for (const auto& [key, value] : file.contents().metadata) {
    for (uint64_t i = 0; value.is_integer() && i < value.size; ++i) sink = sink + value.Int(i);
    for (const std::byte b : value.data) sink = sink + static_cast<uint8_t>(b);
    if (value.is_array && value.type == penstock::GgufType::kString) {
      const auto texts = file.Strings(key);
      for (const std::string_view text : *texts) sink = sink + text.size();
    }
  }
  for (const auto& [name, tensor] : file.contents().tensors) {
    if (!penstock::IsDecodedGgmlType(tensor.type)) continue;
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
    std::vector<float> values(rows * tensor.shape.back());
    penstock::DequantizeGgmlRows(tensor.type, tensor.data.data(), rows, tensor.shape.back(),
                                 values.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), size);
  auto opened = penstock::Gguf::FromBytes(bytes, "fuzz");
  if (!opened.ok()) return 0;
  const auto file = std::make_shared<const penstock::Gguf>(*std::move(opened));
  ReadAll(*file);
  (void)penstock::GgufIgnoredKeys(*file);
  const auto json = penstock::GgufConfigJson(*file);
  if (json.ok()) (void)penstock::ParseModelConfig(*json, "fuzz");
  const auto source = penstock::GgufSource::Make(file);
  if (!source.ok()) return 0;
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.kv_b_proj",
                           "linear_attn.in_proj_qkv", "linear_attn.in_proj_a",
                           "linear_attn.out_proj", "mlp.experts.0.up_proj", "mlp.down_proj"}) {
    const std::string layer = std::string("model.layers.0.") + name;
    for (const int64_t rows : {2, 4, 64}) {
      (void)(*source)->FindLinear(layer, {rows, 32}, -1);
      (void)(*source)->Get(layer + ".weight", {rows, 32});
      (void)(*source)->Get(layer + ".bias", {rows});
    }
  }
  (void)(*source)->Get("model.layers.0.linear_attn.A_log", {4});
  (void)(*source)->Get("model.layers.0.linear_attn.conv1d.weight", {64, 1, 4});
  (void)(*source)->Get("model.layers.0.mlp.experts.gate_up_proj_bias", {2, 4});
  (void)(*source)->FindLinear("model.layers.0.mlp.experts.gate_up_proj", {2, 4, 32}, 1);
  return 0;
}
