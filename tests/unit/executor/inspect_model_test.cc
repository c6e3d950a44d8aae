#include "executor/inspect_model.h"

#include <gtest/gtest.h>

#include "fakes/gguf_writer.h"
#include "fakes/safetensors_writer.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

/// A language model of TinyConfig under `prefix`, float32 zeros, and some vision tensors.
std::vector<TensorToWrite> Tensors(const std::string& prefix, const std::string& head) {
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t size = 4;
    for (const int64_t dim : shape) size *= dim;
    tensors.push_back({name, "F32", shape, std::string(size, '\0')});
  };
  add(prefix + "embed_tokens.weight", {317, 40});
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    const std::string p = prefix + layer;
    add(p + "input_layernorm.weight", {40});
    add(p + "post_attention_layernorm.weight", {40});
    add(p + "self_attn.q_proj.weight", {120, 40});
    add(p + "self_attn.k_proj.weight", {40, 40});
    add(p + "self_attn.v_proj.weight", {40, 40});
    add(p + "self_attn.o_proj.weight", {40, 120});
    add(p + "mlp.gate_proj.weight", {72, 40});
    add(p + "mlp.up_proj.weight", {72, 40});
    add(p + "mlp.down_proj.weight", {40, 72});
  }
  add(prefix + "norm.weight", {40});
  add(head + "lm_head.weight", {317, 40});
  add("vision_tower.blocks.0.weight", {8, 8});
  add("vision_tower.blocks.1.weight", {8, 8});
  return tensors;
}

absl::StatusOr<ModelReport> Inspect(const std::vector<TensorToWrite>& tensors) {
  const TempDir dir;
  dir.Write("config.json",
            R"({"architectures": ["LlavaForConditionalGeneration"], "text_config": )" +
                TinyConfig("LlamaForCausalLM", "\"model_type\": \"llama\",") + "}");
  dir.Write("model.safetensors", SafetensorsFile(tensors));
  return InspectModel(dir.path());
}

TEST(InspectModel, ReadsTheLanguagePartOfAMultimodalModelAndListsTheRest) {
  struct Case {
    std::string prefix, head;
  };
  for (const Case& c : {Case{"model.", ""}, Case{"language_model.model.", "language_model."},
                        Case{"model.language_model.", ""}}) {
    const auto report = Inspect(Tensors(c.prefix, c.head));
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->config.architecture, "LlamaForCausalLM");
    ASSERT_EQ(report->ignored.size(), 1u) << c.prefix;
    EXPECT_EQ(report->ignored.begin()->first, "vision_tower.blocks.*");
    EXPECT_EQ(report->ignored.begin()->second.num_tensors, 2);
    EXPECT_EQ(report->ignored.begin()->second.num_bytes, 2 * 8 * 8 * 4);
    const int64_t layer = 40 * (2 + 120 + 40 + 40 + 120 + 3 * 72);
    EXPECT_EQ(report->num_parameters, 2 * 317 * 40 + 2 * layer + 40);
    EXPECT_EQ(report->formats.at("float32").num_tensors, 23);
  }
}

TEST(InspectModel, ListsLayersForPredictionFurtherAhead) {
  std::vector<TensorToWrite> tensors = Tensors("model.", "");
  tensors.push_back({"model.layers.2.eh_proj.weight", "F32", {8, 8}, std::string(256, '\0')});
  tensors.push_back({"mtp.fc.weight", "F32", {8, 8}, std::string(256, '\0')});
  const TempDir dir;
  dir.Write("config.json", TinyConfig("LlamaForCausalLM"));
  dir.Write("model.safetensors", SafetensorsFile(tensors));
  const auto report = InspectModel(dir.path());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->ignored.at("model.layers.2.*").num_tensors, 1);
  EXPECT_EQ(report->ignored.at("mtp.*").num_bytes, 256);
  WorkerPool pool(1);
  LoadOptions load;
  load.model_dir = dir.path();
  load.pool = &pool;
  const auto model = LoadModel(load);
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<std::string> layers;
  for (const auto& [layer, share] : (*model)->unread.prediction_layers) layers.push_back(layer);
  EXPECT_EQ(layers, (std::vector<std::string>{"model.layers.2", "mtp"}));
}

TEST(InspectModel, FindsWhatLoadingWouldRefuse) {
  std::vector<TensorToWrite> tensors = Tensors("model.", "");
  tensors[3].shape = {120, 41};
  tensors[3].bytes = std::string(120 * 41 * 4, '\0');
  EXPECT_NE(Inspect(tensors).status().ToString().find("q_proj.weight"), std::string::npos);
}

TEST(InspectModel, ListsWhatOfAGgufFileIsNotRead) {
  GgufWriter w;
  w.AddString("general.architecture", "llama");
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, uint32_t>>{{"context_length", 128},
                                                     {"embedding_length", 32},
                                                     {"block_count", 2},
                                                     {"nextn_predict_layers", 1},
                                                     {"feed_forward_length", 32},
                                                     {"vocab_size", 5},
                                                     {"attention.head_count", 4}}) {
    w.AddInt(std::string("llama.") + key, value);
  }
  w.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  w.AddTensor("token_embd.weight", GgmlType::kF32, {5, 32}, std::string(640, '\0'));
  w.AddTensor("rope_freqs.weight", GgmlType::kF32, {4}, BytesOf(std::vector<float>(4, 1.0f)));
  for (const char* norm : {"output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"})
    w.AddTensor(std::string(norm) + ".weight", GgmlType::kF32, {32}, std::string(128, '\0'));
  for (const char* name :
       {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}) {
    w.AddTensor(std::string("blk.0.") + name + ".weight", GgmlType::kF32, {32, 32},
                std::string(4096, '\0'));
  }
  w.AddTensor("blk.1.nextn.eh_proj.weight", GgmlType::kF32, {32, 32}, std::string(4096, '\0'));
  const TempDir dir;
  const auto report = InspectModel(dir.Write("m.gguf", w.Bytes()));
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->ignored.size(), 1u);
  EXPECT_EQ(report->ignored.begin()->first, "blk.1.*");
  EXPECT_EQ(report->ignored.begin()->second.num_bytes, 4096);
  EXPECT_EQ(report->ignored_keys, std::vector<std::string>{"llama.vocab_size"});
}

}  // namespace
}  // namespace penstock
