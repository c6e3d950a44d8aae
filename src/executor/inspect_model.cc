#include "executor/inspect_model.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/counting_device.h"
#include "base/status_macros.h"
#include "executor/load_model.h"
#include "format/ggml_blocks.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "model/families.h"
#include "model/gguf_config.h"
#include "model/prediction_head.h"
#include "model/quantization_config.h"

namespace penstock {
namespace {

void Add(int64_t bytes, TensorShare& share) {
  ++share.num_tensors;
  share.num_bytes += bytes;
}

absl::Status ReadGguf(const std::string& path, ModelReport& report) {
  ASSIGN_OR_RETURN(const Gguf file, Gguf::Open(path));
  ASSIGN_OR_RETURN(report.ignored_keys, GgufIgnoredKeys(file));
  for (const auto& [name, tensor] : file.contents().tensors) {
    const GgmlTypeInfo* type = FindGgmlType(static_cast<uint32_t>(tensor.type));
    Add(static_cast<int64_t>(tensor.data.size()), report.formats[std::string(type->name)]);
  }
  return absl::OkStatus();
}

absl::Status ReadFormats(const std::string& path, ModelReport& report) {
  if (absl::EndsWith(path, ".gguf")) return ReadGguf(path, report);
  ASSIGN_OR_RETURN(const Safetensors files, Safetensors::OpenModel(path));
  for (const auto& [name, entry] : files.entries())
    Add(static_cast<int64_t>(entry.data.size()),
        report.formats[std::string(DTypeName(entry.dtype))]);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelReport> InspectModel(const std::string& model_dir) {
  ASSIGN_OR_RETURN(const OpenedModel opened, OpenModel(model_dir, "file"));
  ModelReport report;
  report.config = opened.config;
  CountingDevice device;
  ASSIGN_OR_RETURN(const ModelWeights weights,
                   LoadWeights(opened.config, *opened.source, device, nullptr));
  report.num_parameters = device.num_values();
  const absl::Status predicts =
      LoadPredictionHead(opened.config, weights, *opened.source, device).status();
  if (!absl::IsNotFound(CanPredict(opened.config, *opened.source)))
    report.prediction_head = predicts.ok() ? "guesses" : std::string(predicts.message());
  ASSIGN_OR_RETURN(UnreadTensors unread, FindUnread(model_dir, *opened.source, opened.config));
  report.ignored = std::move(unread.others);
  for (const auto& [layer, share] : unread.prediction_layers) report.ignored[layer + ".*"] = share;
  const ModelConfig& c = opened.config;
  if (!c.tied_embeddings) report.num_parameters += int64_t{c.vocab_size} * c.hidden_size;
  const Family* family = FindFamily(c.architecture, c.model_type);
  report.family = family != nullptr ? std::string(family->title) : "encoder";
  if (!absl::EndsWith(model_dir, ".gguf")) {
    ASSIGN_OR_RETURN(const QuantizationConfig quantization, LoadQuantizationConfig(model_dir));
    report.quantization = quantization.method;
  }
  RETURN_IF_ERROR(ReadFormats(model_dir, report));
  return report;
}

}  // namespace penstock
