#include "model/prediction_head.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "model/families.h"
#include "model/weight_loader.h"

namespace penstock {
namespace {

/// Where the parts of a head lie, all without ".weight"; `block` ends in a dot.
struct HeadTensors {
  std::string embedding_norm, state_norm, projection, block, norm;
  std::string embedding, head;  // of its own, if the file has such
};

HeadTensors NumberedHead(const ModelNames& names, size_t layer) {
  const std::string at = absl::StrCat(names.prefix, ToAbsl(names.layers), layer, ".");
  return {.embedding_norm = at + "enorm",
          .state_norm = at + "hnorm",
          .projection = at + "eh_proj",
          .block = at,
          .norm = at + "shared_head.norm",
          .embedding = at + "embed_tokens",
          .head = at + "shared_head.head"};
}

HeadTensors MtpHead() {
  return {.embedding_norm = "mtp.pre_fc_norm_embedding",
          .state_norm = "mtp.pre_fc_norm_hidden",
          .projection = "mtp.fc",
          .block = "mtp.layers.0.",
          .norm = "mtp.norm",
          .embedding = "mtp.embed_tokens",
          .head = "mtp.lm_head"};
}

HeadsRule RuleOf(const ModelConfig& config) {
  const Family* family = FindFamily(config.architecture, config.model_type);
  return family != nullptr ? family->heads : HeadsRule::kNone;
}

HeadTensors TensorsOf(const ModelConfig& config, const TensorSource& source) {
  if (RuleOf(config) == HeadsRule::kMtp) return MtpHead();
  return NumberedHead(FindNames(config.layout, source), config.layers.size());
}

/// The last layer with attention, which heads have everywhere; null: there is none.
const LayerConfig* LikeTheHeads(const ModelConfig& config) {
  const auto it = std::find_if(config.layers.rbegin(), config.layers.rend(),
                               [](const LayerConfig& layer) { return !layer.recurrent; });
  return it == config.layers.rend() ? nullptr : &*it;
}

const StoredTensor* FindStored(const std::vector<StoredTensor>& stored, const std::string& name) {
  const auto it = std::find_if(stored.begin(), stored.end(),
                               [&](const StoredTensor& t) { return t.name == name; });
  return it == stored.end() ? nullptr : &*it;
}

bool HasModule(const std::vector<StoredTensor>& stored, const std::string& name) {
  return std::any_of(stored.begin(), stored.end(),
                     [&](const StoredTensor& t) { return t.name.starts_with(name + "."); });
}

/// Whether `own` has to be loaded: it is in the file, and is not the same as `shared`.
bool Differs(const std::vector<StoredTensor>& stored, const std::string& own,
             const std::string& shared, const TensorSource& source) {
  if (!HasModule(stored, own)) return false;
  const StoredTensor* a = FindStored(stored, own + ".weight");
  const StoredTensor* b = FindStored(stored, shared + ".weight");
  if (a == nullptr || b == nullptr) return true;
  const bool same = a->data.size() == b->data.size() &&
                    std::equal(a->data.begin(), a->data.end(), b->data.begin());
  return !(same && source.Has(own + ".weight"));  // asked for: it counts as read
}

}  // namespace

absl::Status CanPredict(const ModelConfig& config, const TensorSource& source) {
  const HeadsRule rule = RuleOf(config);
  const std::vector<StoredTensor> stored = source.Stored();
  // A formula has whatever is asked for.
  const bool there = rule != HeadsRule::kNone &&
                     (stored.empty() || HasModule(stored, TensorsOf(config, source).projection));
  if (!there) {
    return absl::NotFoundError(
        absl::StrCat("the checkpoint has no prediction head of a kind that is known for ",
                     config.architecture.empty() ? "an encoder" : config.architecture));
  }
  if (LikeTheHeads(config) == nullptr)
    return absl::UnimplementedError("no layer of the model has attention, as the head does");
  for (const LayerConfig& layer : config.layers) {
    if (layer.window > 0)
      return absl::UnimplementedError("a prediction head with a window is not supported");
  }
  for (const RopeConfig& rope : config.ropes) {
    if (rope.type == RopeType::kLongRope)
      return absl::UnimplementedError("a prediction head with rope type longrope is not supported");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PredictionHead>> LoadPredictionHead(const ModelConfig& config,
                                                                   const ModelWeights& model,
                                                                   TensorSource& source,
                                                                   Device& device) {
  RETURN_IF_ERROR(CanPredict(config, source));
  const HeadTensors tensors = TensorsOf(config, source);
  const ModelNames names = FindNames(config.layout, source);
  const std::vector<StoredTensor> stored = source.Stored();
  const int64_t hidden = config.hidden_size;
  WeightLoader loader(source, device);
  auto head = std::make_unique<PredictionHead>();
  head->config = config;
  head->config.layers = {*LikeTheHeads(config)};
  const auto norm = [&](const std::string& name, NormWeights& to) -> absl::Status {
    ASSIGN_OR_RETURN(to, loader.Norm(name, config.norm, hidden));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(norm(tensors.embedding_norm, head->embedding_norm));
  RETURN_IF_ERROR(norm(tensors.state_norm, head->state_norm));
  RETURN_IF_ERROR(norm(tensors.norm, head->weights.final_norm));
  ASSIGN_OR_RETURN(head->projection,
                   loader.Linear(RowsOf{.name = tensors.projection, .rows = hidden}, 2 * hidden,
                                 /*bias=*/false));
  ASSIGN_OR_RETURN(LayerWeights block, LoadLayer(head->config, 0, tensors.block, loader));
  head->weights.layers.push_back(std::move(block));
  head->tables = &model;
  if (Differs(stored, tensors.embedding, names.Embedding(), source)) {
    head->config.tied_embeddings = false;
    RETURN_IF_ERROR(loader.Embedding(tensors.embedding, head->config, {}, head->weights));
    head->tables = &head->weights;
  }
  const std::string shared = config.tied_embeddings ? names.Embedding() : names.Head();
  if (Differs(stored, tensors.head, shared, source)) {
    ASSIGN_OR_RETURN(head->weights.lm_head,
                     loader.Linear(RowsOf{.name = tensors.head, .rows = config.vocab_size}, hidden,
                                   /*bias=*/false));
  } else {
    head->weights.shared_head = &model.head();
  }
  RETURN_IF_ERROR(source.Intact());
  return head;
}

}  // namespace penstock
