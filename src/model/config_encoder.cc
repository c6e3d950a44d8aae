#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "model/config_parts.h"

namespace penstock {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kBert[] = {"BertModel", "BertForMaskedLM",
                                      "BertForSequenceClassification"};
constexpr std::string_view kRoberta[] = {
    "XLMRobertaModel", "XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification",
    "RobertaModel",    "RobertaForMaskedLM",    "RobertaForSequenceClassification"};

bool IsOneOf(std::string_view name, absl::Span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

bool IsEncoder(std::string_view architecture) {
  return IsOneOf(architecture, kBert) || IsOneOf(architecture, kRoberta);
}

absl::Status ReadEncoder(ConfigReader& config, std::string_view architecture, ModelConfig& out) {
  const bool roberta = IsOneOf(architecture, kRoberta);
  out.encoder.present = true;
  out.hidden_size = config.Int("hidden_size", std::nullopt, 1, kMaxSize);
  out.intermediate_size = config.Int("intermediate_size", std::nullopt, 1, kMaxSize);
  out.vocab_size = config.Int("vocab_size", std::nullopt, 1, kMaxSize);
  out.encoder.num_types = config.Int("type_vocab_size", roberta ? 1 : 2, 0, 16);
  if (roberta) out.encoder.position_offset = config.Int("pad_token_id", 1, 0, kMaxSize - 1) + 1;
  const int32_t positions = config.Int("max_position_embeddings", 512, 1, kMaxSize);
  out.max_positions = positions - out.encoder.position_offset;
  if (out.max_positions < 1)
    config.Fail("max_position_embeddings", "expected more than the padding takes");
  out.norm = NormType::kLayer;
  out.norm_eps = static_cast<float>(config.Number("layer_norm_eps", 1e-12, 0.0, 1.0));
  const int32_t heads = config.Int("num_attention_heads", std::nullopt, 1, kMaxSize);
  if (out.hidden_size % std::max(1, heads) != 0) {
    config.Fail("num_attention_heads",
                absl::StrCat(heads, " does not divide hidden_size ", out.hidden_size));
    return config.status();
  }
  if (config.String("position_embedding_type", "absolute") != "absolute")
    config.Fail("position_embedding_type", "expected absolute");
  const std::string activation = config.String("hidden_act", "gelu");
  if (activation == "gelu") {
    out.activation = Activation::kGelu;
  } else if (activation == "gelu_new" || activation == "gelu_pytorch_tanh") {
    out.activation = Activation::kGeluTanh;
  } else if (activation == "relu") {
    out.activation = Activation::kRelu;
  } else {
    config.Fail("hidden_act", "expected gelu, gelu_new, gelu_pytorch_tanh or relu");
  }
  LayerConfig layer;
  layer.heads = {heads, heads, out.hidden_size / std::max(1, heads)};
  layer.rope = -1;
  out.layers.assign(config.Int("num_hidden_layers", std::nullopt, 1, kMaxLayers), layer);
  if (absl::EndsWith(ToAbsl(architecture), "ForSequenceClassification")) {
    const Json* labels = config.Find("id2label");
    out.encoder.num_labels = labels != nullptr && labels->is_object() && !labels->empty()
                                 ? static_cast<int32_t>(labels->size())
                                 : config.Int("num_labels", 2, 1, 4096);
    out.encoder.pooler = !roberta;
  }
  out.pooling = Pooling::kMean;
  return config.status();
}

}  // namespace penstock
