#include "model/adapter_weights.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "format/json_text.h"
#include "model/adapted_members.h"
#include "model/adapter_config.h"
#include "model/adapter_copies.h"
#include "model/adapter_file.h"
#include "model/host_tensor.h"
#include "model/layer_linears.h"

namespace penstock {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr int32_t kNoLayer = -1;
constexpr std::string_view kA = ".lora_A.weight";
constexpr std::string_view kB = ".lora_B.weight";
constexpr std::string_view kEmbeddingA = ".lora_embedding_A";
constexpr std::string_view kEmbeddingB = ".lora_embedding_B";

/// What PEFT puts before the names of the model that it wraps.
constexpr std::string_view kWrapped = "base_model.model.";

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
  AdapterLoader(const ModelConfig& model, const AdapterConfig& config, AdapterFile& file,
                Device& device, const AdapterBounds& bounds, const OpenBase& open_base)
      : model_(model),
        config_(config),
        file_(file),
        device_(device),
        bounds_(bounds),
        open_base_(open_base),
        names_(NamesOf(model.layout)) {}

  absl::StatusOr<AdapterWeights> Load() {
    RETURN_IF_ERROR(FindPrefix());
    FindMixtures();
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      ASSIGN_OR_RETURN(AdaptedLayer layer, Layer(static_cast<int32_t>(i)));
      out_.layers.push_back(std::move(layer));
    }
    RETURN_IF_ERROR(Embedding());
    RETURN_IF_ERROR(Head());
    RETURN_IF_ERROR(Copies());
    RETURN_IF_ERROR(RefuseUnread());
    return std::move(out_);
  }

 private:
  struct Factors {
    std::string module;
    HostTensor a, b;
    int64_t a_begin = 0;
  };

  std::string EmbeddingModule() const { return absl::StrCat(prefix_, ToAbsl(names_.embedding)); }
  static std::string Wrapped(const std::string& module) {
    return absl::StrCat(ToAbsl(kWrapped), module);
  }
  /// What the file calls the head: as the layout does, or as newer versions of the training software
  /// do for all, alone or within a larger model.
  void FindHead() {
    head_ = std::string(names_.head);
    for (const std::string_view name : {names_.head, std::string_view("lm_head")}) {
      for (const std::string_view prefix : {"", "language_model."}) {
        const std::string module = absl::StrCat(ToAbsl(prefix), ToAbsl(name));
        if (!file_.HasPrefix(Wrapped(module) + ".")) continue;
        head_ = module;
        return;
      }
    }
  }

  /// How the file's names go on to "layers.0.".
  absl::Status FindPrefix() {
    if (file_.entries().empty())
      return absl::InvalidArgumentError(absl::StrCat(file_.path(), ": there is no tensor"));
    FindHead();
    for (const std::string_view part : {names_.layers, names_.embedding}) {
      for (const std::string& prefix : PrefixesOf(model_.layout)) {
        prefix_ = prefix;
        if (file_.HasPrefix(Wrapped(absl::StrCat(prefix, ToAbsl(part))))) return absl::OkStatus();
      }
    }
    prefix_ = names_.prefix;
    if (file_.HasPrefix(Wrapped(head_) + ".")) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(file_.path(), ": tensor \"", file_.entries().begin()->first,
                     "\" is of no linear layer of ", model_.architecture));
  }

  std::string LayerPrefix(int32_t index) const {
    return absl::StrCat(ToAbsl(names_.layers), index, ".");
  }

  /// Some versions of the training software have routers, and experts, that are no linear layers:
  /// to it their names match nothing. Where the file has one, it has all that are meant.
  void FindMixtures() {
    const ExpertsConfig& e = model_.experts;
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      if (!model_.layers[i].experts) continue;
      const std::string block =
          Wrapped(absl::StrCat(prefix_, LayerPrefix(static_cast<int32_t>(i)), ToAbsl(e.block)));
      if (file_.HasPrefix(absl::StrCat(block, ToAbsl(e.router), ".lora_"))) has_routers_ = true;
      if (!e.always_stacked && file_.HasPrefix(block + "experts.")) has_experts_ = true;
    }
  }

  absl::StatusOr<AdaptedLayer> Layer(int32_t index) {
    const std::string prefix = LayerPrefix(index);
    const LayerLinears linears = LinearsOf(model_, index, prefix);
    const bool mixture = model_.layers[index].experts;
    if (mixture && !has_routers_) skipped_.insert(prefix_ + linears.router.parts[0].name);
    AdaptedLayer out;
    for (const AdaptedMember& member : kAdaptedMembers) {
      ASSIGN_OR_RETURN(out.*member.adapted, Linear(linears.*member.linear, index));
    }
    if (!linears.kv_b.parts.empty()) {
      ASSIGN_OR_RETURN(out.kv_b, LatentUp(linears.kv_b, index));
    }
    if (mixture) RETURN_IF_ERROR(Experts(prefix, index, out.experts));
    return out;
  }

  absl::Status Experts(const std::string& prefix, int32_t layer, std::vector<AdaptedExpert>& out) {
    const ExpertsConfig& e = model_.experts;
    if (has_experts_ && !bounds_.experts) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_.path(),
                       " changes the experts that tokens are routed to: memory is kept for such "
                       "adapters where lora.experts is true"));
    }
    const int32_t shared = e.shared_intermediate_size > 0 ? 1 : 0;
    std::vector<AdaptedExpert> experts(e.num_experts + shared);
    bool any = false;
    for (int32_t i = has_experts_ ? 0 : e.num_experts; i < e.num_experts + shared; ++i) {
      const ExpertLinears linears = ExpertLinearsOf(model_, prefix, i);
      ASSIGN_OR_RETURN(experts[i].gate_up, Linear(linears.gate_up, layer));
      ASSIGN_OR_RETURN(experts[i].down, Linear(linears.down, layer));
      any = any || !experts[i].gate_up.parts.empty() || !experts[i].down.parts.empty();
    }
    if (any) out = std::move(experts);
    return absl::OkStatus();
  }

  /// Whether the adapter has factors of a module by these names; an error where its config says
  /// otherwise.
  absl::StatusOr<bool> Adapts(const std::string& module, int32_t layer, std::string_view a,
                              std::string_view b) const {
    const std::string a_name = absl::StrCat(Wrapped(module), ToAbsl(a));
    const bool there = file_.Has(a_name) || file_.Has(absl::StrCat(Wrapped(module), ToAbsl(b)));
    const bool wanted = config_.Targets(module, layer) && !skipped_.contains(module);
    if (there && !wanted) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_.path(), ": tensor \"", a_name,
                       "\" is of a module that target_modules of adapter_config.json leaves out"));
    }
    return wanted;
  }

  absl::StatusOr<int64_t> RankOf(const std::string& module) {
    const int32_t rank = config_.RankOf(module);
    if (rank > bounds_.max_rank) {
      return absl::InvalidArgumentError(absl::StrCat(file_.path(), ": ", module, " has rank ", rank,
                                                     ", lora.max_rank is ", bounds_.max_rank));
    }
    out_.rank = std::max(out_.rank, rank);
    return rank;
  }

  absl::StatusOr<HostTensor> Factor(const std::string& module, std::string_view which, int64_t rows,
                                    int64_t cols) {
    const std::string name = absl::StrCat(Wrapped(module), ToAbsl(which));
    ASSIGN_OR_RETURN(HostTensor tensor, file_.Matrix(name, rows, cols));
    read_.insert(name);
    return tensor;
  }

  /// Both factors of a module; none where the adapter leaves it alone.
  absl::Status Find(const RowsOf& part, int64_t k, int32_t layer, std::vector<Factors>& found) {
    Factors f;
    f.module = prefix_ + part.name;
    if (layer == kNoLayer) f.module = part.name;
    if (std::any_of(found.begin(), found.end(),
                    [&](const Factors& other) { return other.module == f.module; }))
      return absl::OkStatus();
    ASSIGN_OR_RETURN(const bool adapted, Adapts(f.module, layer, kA, kB));
    if (!adapted) return absl::OkStatus();
    ASSIGN_OR_RETURN(const int64_t rank, RankOf(f.module));
    f.a_begin = found.empty() ? 0 : found.back().a_begin + found.back().a.shape[0];
    const int64_t rows = part.tensor_rows > 0 ? part.tensor_rows : part.rows;
    ASSIGN_OR_RETURN(f.a, Factor(f.module, kA, rank, k));
    ASSIGN_OR_RETURN(f.b, Factor(f.module, kB, rows, rank));
    found.push_back(std::move(f));
    return absl::OkStatus();
  }

  /// `layer`: kNoLayer: the names of the parts are whole.
  absl::StatusOr<AdaptedLinear> Linear(const LayerLinear& linear, int32_t layer) {
    std::vector<Factors> found;
    for (const RowsOf& part : linear.parts) RETURN_IF_ERROR(Find(part, linear.k, layer, found));
    AdaptedLinear out;
    if (found.empty()) return out;
    std::vector<LinearPart> a;
    for (const Factors& f : found) a.push_back(WholePart(f.a));
    ASSIGN_OR_RETURN(out.a, Pack(linear.k, a));
    int64_t y_begin = 0;
    for (const RowsOf& part : linear.parts) {
      const std::string module = layer == kNoLayer ? part.name : prefix_ + part.name;
      const auto it = std::find_if(found.begin(), found.end(),
                                   [&](const Factors& f) { return f.module == module; });
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
      y_begin += linear.part_stride > 0 ? linear.part_stride : part.rows;
    }
    return out;
  }

  absl::StatusOr<std::unique_ptr<AdaptedLatentUp>> LatentUp(const LayerLinear& linear,
                                                            int32_t layer) {
    std::vector<Factors> found;
    RETURN_IF_ERROR(Find(linear.parts[0], linear.k, layer, found));
    if (found.empty()) return nullptr;
    const Factors& f = found[0];
    const LatentConfig& c = model_.latent;
    const auto pack = [&](const HostTensor& tensor) {
      const LinearPart part = WholePart(tensor);
      return Pack(tensor.shape[1], {&part, 1});
    };
    auto out = std::make_unique<AdaptedLatentUp>();
    out->scaling = config_.ScalingOf(f.module);
    ASSIGN_OR_RETURN(out->down, pack(f.a));
    ASSIGN_OR_RETURN(out->down_back, pack(Transposed(f.a)));
    const int64_t up = c.nope_dim + c.value_dim;
    for (int64_t h = 0; h < model_.layers[layer].heads.num_heads; ++h) {
      const HostTensor keys = Transposed(SliceRows(f.b, h * up, c.nope_dim));
      ASSIGN_OR_RETURN(PackedLinear of_keys, pack(keys));
      out->keys.push_back(std::move(of_keys));
      ASSIGN_OR_RETURN(PackedLinear of_values,
                       pack(SliceRows(f.b, h * up + c.nope_dim, c.value_dim)));
      out->values.push_back(std::move(of_values));
    }
    return out;
  }

  absl::Status Embedding() {
    const std::string module = EmbeddingModule();
    ASSIGN_OR_RETURN(const bool adapted, Adapts(module, kNoLayer, kEmbeddingA, kEmbeddingB));
    if (!adapted) return absl::OkStatus();
    RETURN_IF_ERROR(RefuseTies(module));
    ASSIGN_OR_RETURN(const int64_t rank, RankOf(module));
    ASSIGN_OR_RETURN(const HostTensor a, Factor(module, kEmbeddingA, rank, model_.vocab_size));
    ASSIGN_OR_RETURN(const HostTensor b, Factor(module, kEmbeddingB, model_.hidden_size, rank));
    AdaptedEmbedding& out = out_.embedding;
    const HostTensor rows = Transposed(a);
    const size_t bytes = model_.vocab_size * rank * DTypeSize(rows.dtype);
    ASSIGN_OR_RETURN(out.storage, device_.Allocate(bytes));
    device_.CopyToDevice(out.storage.data(), rows.data, bytes);
    RETURN_IF_ERROR(device_.Synchronize());  // `rows` goes
    out_.num_bytes += static_cast<int64_t>(out.storage.bytes());
    out.table = {out.storage.data(), rows.dtype, model_.vocab_size, rank, rank};
    const LinearPart part = WholePart(b);
    ASSIGN_OR_RETURN(out.b, Pack(rank, {&part, 1}));
    out.scaling = config_.ScalingOf(module);
    return absl::OkStatus();
  }

  /// A head that is the embedding as well is changed alone: PEFT wraps one module of the two.
  absl::Status Head() {
    const LayerLinear head = {{{.name = head_, .rows = model_.vocab_size}}, model_.hidden_size};
    ASSIGN_OR_RETURN(out_.head, Linear(head, kNoLayer));
    return out_.head.parts.empty() ? absl::OkStatus() : RefuseTies(head_);
  }

  absl::Status RefuseTies(const std::string& module) const {
    if (!model_.tied_embeddings || !config_.ties_weights()) return absl::OkStatus();
    return absl::UnimplementedError(
        absl::StrCat(file_.path(), ": ", module,
                     " is adapted with ensure_weight_tying, which is not supported: embedding and "
                     "head are changed by factors of their own"));
  }

  /// What the training software saves of the modules that it wraps, or has not wrapped, beside their
  /// factors.
  absl::Status Copies() {
    std::unique_ptr<TensorSource> base;
    for (const TokenTable which : {TokenTable::kEmbedding, TokenTable::kHead}) {
      const std::string module = which == TokenTable::kHead ? head_ : EmbeddingModule();
      for (const std::string_view kind : {".base_layer.weight", ".weight"}) {
        const std::string name = absl::StrCat(Wrapped(module), ToAbsl(kind));
        if (!file_.Has(name)) continue;
        if (base == nullptr) {
          ASSIGN_OR_RETURN(base, open_base_());
        }
        RETURN_IF_ERROR(CheckCopy(file_, name, which, model_, *base));
        read_.insert(name);
      }
    }
    return absl::OkStatus();
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
      const bool whole = !absl::StrContains(name, ".lora_");
      return absl::UnimplementedError(
          absl::StrCat(file_.path(), ": tensor \"", name, "\" is not supported: ",
                       whole ? "whole weights cannot be replaced, only low-rank factors added"
                             : absl::StrCat("it is of no layer of ", model_.architecture,
                                            " that adapters may change")));
    }
    return absl::OkStatus();
  }

  const ModelConfig& model_;
  const AdapterConfig& config_;
  AdapterFile& file_;
  Device& device_;
  const AdapterBounds bounds_;
  const OpenBase& open_base_;
  const ModelNames names_;
  std::string prefix_;
  std::string head_;
  bool has_routers_ = false;
  bool has_experts_ = false;
  std::set<std::string> read_;
  std::set<std::string> skipped_;  // modules that target_modules does not mean
  AdapterWeights out_;
};

}  // namespace

absl::StatusOr<AdapterWeights> LoadAdapter(const std::string& dir, const ModelConfig& config,
                                           Device& device, const AdapterBounds& bounds,
                                           const OpenBase& open_base, AdapterFilePool* files) {
  const std::string config_path = dir + "/adapter_config.json";
  ASSIGN_OR_RETURN(const std::string json, ReadTextFile(config_path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(const AdapterConfig adapter, AdapterConfig::Parse(json, config_path));
  ASSIGN_OR_RETURN(AdapterFile file, AdapterFile::Open(dir + "/adapter_model.safetensors", files));
  return AdapterLoader(config, adapter, file, device, bounds, open_base).Load();
}

}  // namespace penstock
