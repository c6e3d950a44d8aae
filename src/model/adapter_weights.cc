#include "model/adapter_weights.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"
#include "format/safetensors.h"
#include "model/adapter_config.h"
#include "model/host_tensor.h"
#include "model/layer_linears.h"

namespace penstock {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kMaxHeaderBytes = 16 << 20;  // of the tensors' file, beside their values
constexpr int64_t kPanelRows = 64;             // what a device may round rows up to
constexpr std::string_view kA = ".lora_A.weight";
constexpr std::string_view kB = ".lora_B.weight";

/// What PEFT puts before the names of the model that it wraps.
constexpr std::string_view kWrapped = "base_model.model.";

/// The linear layers that an adapter can change, in the order in which they are loaded.
constexpr LayerLinear LayerLinears::*kLinears[] = {&LayerLinears::qkv, &LayerLinears::o,
                                                   &LayerLinears::gate_up, &LayerLinears::down};
constexpr AdaptedLinear AdaptedLayer::*kAdapted[] = {&AdaptedLayer::qkv, &AdaptedLayer::o,
                                                     &AdaptedLayer::gate_up, &AdaptedLayer::down};

/// The tensors of a file that is read whole: one that is written to meanwhile harms nobody.
class AdapterFile {
 public:
  static absl::StatusOr<AdapterFile> Open(const std::string& path, int64_t max_bytes) {
    AdapterFile file;
    file.path_ = path;
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    if (!in) return absl::NotFoundError(absl::StrCat(path, " cannot be read"));
    const auto size = static_cast<int64_t>(in.tellg());
    if (size > max_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, " has ", size, " bytes, an adapter within lora.max_rank has at most ", max_bytes));
    }
    file.bytes_.resize(size);
    in.seekg(0);
    if (!in.read(reinterpret_cast<char*>(file.bytes_.data()), size))
      return absl::UnavailableError(absl::StrCat(path, " cannot be read"));
    RETURN_IF_ERROR(ParseSafetensors(file.bytes_, path, 0, file.entries_));
    return file;
  }

  const std::string& path() const { return path_; }
  const Safetensors::Entries& entries() const { return entries_; }

  /// A matrix of numbers, all of them finite.
  absl::StatusOr<HostTensor> Matrix(const std::string& name) const {
    const auto it = entries_.find(name);
    if (it == entries_.end())
      return absl::NotFoundError(absl::StrCat(path_, ": tensor \"", name, "\" is missing"));
    const SafetensorsEntry& entry = it->second;
    const bool plain = entry.dtype == DType::kFloat32 || entry.dtype == DType::kFloat16 ||
                       entry.dtype == DType::kBFloat16;
    if (!plain || entry.shape.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensor \"", name, "\" is ", ToAbsl(DTypeName(entry.dtype)), " [",
                       absl::StrJoin(entry.shape, ", "),
                       "], expected a matrix of float32, float16 or bfloat16"));
    }
    HostTensor tensor{entry.dtype, entry.shape, entry.data.data(), nullptr};
    for (const float value : Widen(tensor)) {
      if (!std::isfinite(value)) {
        return absl::InvalidArgumentError(
            absl::StrCat(path_, ": tensor \"", name, "\" holds what is no number"));
      }
    }
    return tensor;
  }

 private:
  std::string path_;
  std::vector<std::byte> bytes_;
  Safetensors::Entries entries_;
};

WeightFormat AdapterFormat(DType dtype) {
  if (dtype == DType::kBFloat16) return WeightFormat::kBFloat16;
  return dtype == DType::kFloat16 ? WeightFormat::kFloat16 : WeightFormat::kFloat32;
}

LinearPart WholePart(const HostTensor& tensor) {
  LinearPart part;
  part.weight = tensor.data;
  part.rows = tensor.shape[0];
  part.format = AdapterFormat(tensor.dtype);
  return part;
}

class AdapterLoader {
 public:
  AdapterLoader(const ModelConfig& model, const AdapterConfig& config, const AdapterFile& file,
                Device& device, int32_t max_rank)
      : model_(model), config_(config), file_(file), device_(device), max_rank_(max_rank) {}

  absl::StatusOr<AdapterWeights> Load() {
    RETURN_IF_ERROR(FindPrefix());
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      const LayerLinears linears =
          LinearsOf(model_, i, absl::StrCat(ToAbsl(NamesOf(model_.layout).layers), i, "."));
      AdaptedLayer layer;
      for (size_t l = 0; l < std::size(kLinears); ++l) {
        ASSIGN_OR_RETURN(layer.*kAdapted[l], Linear(linears.*kLinears[l], static_cast<int32_t>(i)));
      }
      out_.layers.push_back(std::move(layer));
    }
    RETURN_IF_ERROR(RefuseUnread());
    return std::move(out_);
  }

 private:
  /// How the file's names go on to "layers.0.".
  absl::Status FindPrefix() {
    if (file_.entries().empty())
      return absl::InvalidArgumentError(absl::StrCat(file_.path(), ": there is no tensor"));
    const std::string layers(NamesOf(model_.layout).layers);
    for (const std::string& prefix : PrefixesOf(model_.layout)) {
      const std::string begin = absl::StrCat(ToAbsl(kWrapped), prefix, layers);
      const auto it = file_.entries().lower_bound(begin);
      if (it == file_.entries().end() || !it->first.starts_with(begin)) continue;
      prefix_ = prefix;
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat(file_.path(), ": tensor \"", file_.entries().begin()->first,
                     "\" is of no linear layer of ", model_.architecture));
  }

  struct Found {
    std::string module;
    HostTensor a, b;
    int64_t a_begin = 0;
  };

  /// Both factors of a module; none where the adapter leaves it alone.
  absl::Status Find(const RowsOf& part, int64_t k, int32_t layer, std::vector<Found>& found) {
    const std::string module = prefix_ + part.name;
    if (std::any_of(found.begin(), found.end(), [&](const Found& f) { return f.module == module; }))
      return absl::OkStatus();
    const std::string wrapped = absl::StrCat(ToAbsl(kWrapped), module);
    const std::string a_name = absl::StrCat(wrapped, ToAbsl(kA));
    const std::string b_name = absl::StrCat(wrapped, ToAbsl(kB));
    const bool there = file_.entries().count(a_name) + file_.entries().count(b_name) > 0;
    const bool wanted = config_.Targets(module, layer);
    if (!there && !wanted) return absl::OkStatus();
    if (there && !wanted) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_.path(), ": tensor \"", a_name,
                       "\" is of a module that target_modules of adapter_config.json leaves out"));
    }
    const int64_t rank = config_.RankOf(module);
    if (rank > max_rank_) {
      return absl::InvalidArgumentError(absl::StrCat(file_.path(), ": ", module, " has rank ", rank,
                                                     ", lora.max_rank is ", max_rank_));
    }
    Found f;
    f.module = module;
    f.a_begin = found.empty() ? 0 : found.back().a_begin + found.back().a.shape[0];
    const int64_t rows = part.tensor_rows > 0 ? part.tensor_rows : part.rows;
    ASSIGN_OR_RETURN(f.a, Factor(a_name, rank, k));
    ASSIGN_OR_RETURN(f.b, Factor(b_name, rows, rank));
    out_.rank = std::max(out_.rank, static_cast<int32_t>(rank));
    found.push_back(std::move(f));
    return absl::OkStatus();
  }

  absl::StatusOr<HostTensor> Factor(const std::string& name, int64_t rows, int64_t cols) {
    ASSIGN_OR_RETURN(HostTensor tensor, file_.Matrix(name));
    if (tensor.shape[0] != rows || tensor.shape[1] != cols) {
      return absl::InvalidArgumentError(absl::StrCat(
          file_.path(), ": tensor \"", name, "\" has shape [", absl::StrJoin(tensor.shape, ", "),
          "], the model and adapter_config.json ask for [", rows, ", ", cols, "]"));
    }
    read_.insert(name);
    return tensor;
  }

  absl::StatusOr<AdaptedLinear> Linear(const LayerLinear& linear, int32_t layer) {
    std::vector<Found> found;
    for (const RowsOf& part : linear.parts) RETURN_IF_ERROR(Find(part, linear.k, layer, found));
    AdaptedLinear out;
    if (found.empty()) return out;
    std::vector<LinearPart> a;
    for (const Found& f : found) a.push_back(WholePart(f.a));
    ASSIGN_OR_RETURN(out.a, Pack(linear.k, a));
    int64_t y_begin = 0;
    for (const RowsOf& part : linear.parts) {
      const auto it = std::find_if(found.begin(), found.end(),
                                   [&](const Found& f) { return f.module == prefix_ + part.name; });
      if (it != found.end()) {
        LinearPart b = WholePart(it->b);
        b.rows = part.rows;
        b.order = part.order;
        AdaptedPart adapted;
        ASSIGN_OR_RETURN(adapted.b, Pack(it->a.shape[0], {&b, 1}));
        adapted.a_begin = it->a_begin;
        adapted.y_begin = y_begin;
        adapted.scaling = config_.ScalingOf(it->module);
        out.parts.push_back(std::move(adapted));
      }
      y_begin += part.rows;
    }
    return out;
  }

  absl::StatusOr<PackedLinear> Pack(int64_t k, absl::Span<const LinearPart> parts) {
    ASSIGN_OR_RETURN(PackedLinear packed, device_.Pack(k, parts));
    out_.num_bytes += static_cast<int64_t>(packed.weight.bytes());
    return packed;
  }

  /// A tensor that changes the answer and that nothing here computes with is an error.
  absl::Status RefuseUnread() const {
    for (const auto& [name, entry] : file_.entries()) {
      if (read_.contains(name)) continue;
      return absl::UnimplementedError(
          absl::StrCat(file_.path(), ": tensor \"", name,
                       "\" is not supported: adapters may change the linear layers of attention "
                       "and of dense mlps, and neither experts, embeddings nor the head"));
    }
    return absl::OkStatus();
  }

  const ModelConfig& model_;
  const AdapterConfig& config_;
  const AdapterFile& file_;
  Device& device_;
  const int32_t max_rank_;
  std::string prefix_;
  std::set<std::string> read_;
  AdapterWeights out_;
};

int64_t RoundedUp(int64_t n) { return (n + kPanelRows - 1) / kPanelRows * kPanelRows; }

/// fn(linear, number of its modules) for each linear layer that can be adapted.
template <class Fn>
void ForEachLinear(const ModelConfig& config, const Fn& fn) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerLinears linears = LinearsOf(config, i, "");
    for (const auto member : kLinears) {
      std::set<std::string> modules;
      for (const RowsOf& part : (linears.*member).parts) modules.insert(part.name);
      fn(linears.*member, static_cast<int64_t>(modules.size()));
    }
  }
}

}  // namespace

absl::StatusOr<AdapterWeights> LoadAdapter(const std::string& dir, const ModelConfig& config,
                                           Device& device, int32_t max_rank) {
  const std::string config_path = dir + "/adapter_config.json";
  ASSIGN_OR_RETURN(const std::string json, ReadTextFile(config_path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(const AdapterConfig adapter, AdapterConfig::Parse(json, config_path));
  ASSIGN_OR_RETURN(const AdapterFile file,
                   AdapterFile::Open(dir + "/adapter_model.safetensors",
                                     MaxAdapterBytes(config, max_rank) + kMaxHeaderBytes));
  return AdapterLoader(config, adapter, file, device, max_rank).Load();
}

int64_t MaxAdapterBytes(const ModelConfig& config, int32_t max_rank) {
  int64_t floats = 0;
  ForEachLinear(config, [&](const LayerLinear& linear, int64_t num_modules) {
    floats += RoundedUp(num_modules * max_rank) * (linear.k + 1);
    for (const RowsOf& part : linear.parts) floats += RoundedUp(part.rows) * (max_rank + 1);
  });
  return floats * static_cast<int64_t>(sizeof(float));
}

int64_t MaxAdapterColumns(const ModelConfig& config, int32_t max_rank) {
  int64_t most = 0;
  ForEachLinear(config, [&](const LayerLinear&, int64_t num_modules) {
    most = std::max(most, num_modules * max_rank);
  });
  return most;
}

}  // namespace penstock
