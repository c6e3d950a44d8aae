#include "executor/inspect_model.h"

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backend/counting_device.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "executor/load_model.h"
#include "format/ggml_blocks.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "model/families.h"
#include "model/gguf_architecture.h"
#include "model/gguf_config.h"
#include "model/gguf_names.h"
#include "model/prediction_layers.h"
#include "model/quantization_config.h"

namespace penstock {
namespace {

/// Passes everything on and remembers what was asked for.
class WatchedSource final : public TensorSource {
 public:
  explicit WatchedSource(TensorSource& source) : source_(source) {}
  bool Has(const std::string& name) const override { return source_.Has(name); }
  absl::StatusOr<HostTensor> Get(const std::string& name,
                                 absl::Span<const int64_t> shape) override {
    asked_.insert(name);
    return source_.Get(name, shape);
  }
  absl::StatusOr<HostLinear> FindLinear(const std::string& name, absl::Span<const int64_t> shape,
                                        int64_t expert) override {
    asked_.insert(name);
    return source_.FindLinear(name, shape, expert);
  }
  bool keeps_in_out_order() const override { return source_.keeps_in_out_order(); }
  const std::set<std::string>& asked() const { return asked_; }
  /// Whether `tensor` is one that was asked for, or a part of a layer that was.
  bool Covers(const std::string& tensor) const {
    if (asked_.contains(tensor)) return true;
    for (size_t at = tensor.find_first_of("._"); at != tensor.npos;
         at = tensor.find_first_of("._", at + 1)) {
      if (asked_.contains(tensor.substr(0, at))) return true;
    }
    return false;
  }

 private:
  TensorSource& source_;
  std::set<std::string> asked_;
};

/// The first parts of a name, numbers as "*": "vision_tower.encoder.*".
std::string GroupOf(const std::string& tensor) {
  std::string group;
  size_t begin = 0;
  for (int parts = 0; parts < 3 && begin != tensor.npos; ++parts) {
    const size_t dot = tensor.find('.', begin);
    const std::string part = tensor.substr(begin, dot == tensor.npos ? dot : dot - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    absl::StrAppend(&group, group.empty() ? "" : ".", number ? "*" : part);
    begin = dot == tensor.npos ? dot : dot + 1;
  }
  return group;
}

void Add(int64_t bytes, FormatShare& share) {
  ++share.num_tensors;
  share.num_bytes += bytes;
}

absl::Status ReadGguf(const std::string& path, const WatchedSource& source, ModelReport& report) {
  ASSIGN_OR_RETURN(const Gguf file, Gguf::Open(path));
  ASSIGN_OR_RETURN(const GgufArchitecture arch, ArchitectureOf(file));
  ASSIGN_OR_RETURN(report.ignored_keys, GgufIgnoredKeys(file));
  // The metadata's reader asks for the factors of rotary frequencies.
  std::set<std::string, std::less<>> read = {"rope_freqs.weight", "rope_factors_long.weight",
                                             "rope_factors_short.weight"};
  for (const std::string& name : source.asked()) {
    for (std::string& tensor : GgufTensorsOf(arch, name)) read.insert(std::move(tensor));
  }
  for (const auto& [name, tensor] : file.contents().tensors) {
    const auto size = static_cast<int64_t>(tensor.data.size());
    const GgmlTypeInfo* type = FindGgmlType(static_cast<uint32_t>(tensor.type));
    Add(size, report.formats[std::string(type->name)]);
    if (!read.contains(name)) Add(size, report.ignored[GroupOf(std::string(name))]);
  }
  return absl::OkStatus();
}

absl::Status ReadFormats(const std::string& path, const WatchedSource& source,
                         ModelReport& report) {
  if (absl::EndsWith(path, ".gguf")) return ReadGguf(path, source, report);
  ASSIGN_OR_RETURN(const Safetensors files, Safetensors::OpenModel(path));
  for (const auto& [name, entry] : files.entries()) {
    Add(entry.data.size(), report.formats[std::string(DTypeName(entry.dtype))]);
    if (source.Covers(name)) continue;
    const std::string layer =
        PredictionLayerOf(name, static_cast<int64_t>(report.config.layers.size()));
    Add(entry.data.size(), report.ignored[layer.empty() ? GroupOf(name) : layer + ".*"]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelReport> InspectModel(const std::string& model_dir) {
  ASSIGN_OR_RETURN(const OpenedModel opened, OpenModel(model_dir, "file"));
  ModelReport report;
  report.config = opened.config;
  WatchedSource source(*opened.source);
  CountingDevice device;
  ASSIGN_OR_RETURN(const ModelWeights weights, LoadWeights(opened.config, source, device, nullptr));
  const ModelConfig& c = opened.config;
  report.num_parameters = device.num_values();
  if (!c.tied_embeddings) report.num_parameters += int64_t{c.vocab_size} * c.hidden_size;
  const Family* family = FindFamily(c.architecture, c.model_type);
  report.family = family != nullptr ? std::string(family->title) : "encoder";
  if (!absl::EndsWith(model_dir, ".gguf")) {
    ASSIGN_OR_RETURN(const QuantizationConfig quantization, LoadQuantizationConfig(model_dir));
    report.quantization = quantization.method;
  }
  RETURN_IF_ERROR(ReadFormats(model_dir, source, report));
  return report;
}

}  // namespace penstock
