// Anonymous memory while a checkpoint in codes is loaded: what stays, 64 MiB and one layer bound it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <thread>

#include "base/sanitizers.h"
#include "fakes/gguf_writer.h"
#include "fakes/tiny_model.h"

namespace penstock {
namespace {

constexpr int64_t kMebibyte = 1 << 20;

/// Anonymous memory of this process that is resident.
int64_t AnonymousBytes() {
  int64_t size = 0;
  int64_t resident = 0;
  int64_t shared = 0;
  std::ifstream("/proc/self/statm") >> size >> resident >> shared;
  return (resident - shared) * ::sysconf(_SC_PAGESIZE);
}

/// The tensors of a GPTQ layer [rows, k] in groups of 128.
void AddGptqLayer(const std::string& name, int64_t rows, int64_t k,
                  std::vector<TensorToWrite>& tensors) {
  tensors.push_back({name + ".qweight", "I32", {k / 8, rows}, std::string(rows * k / 2, '\x5a')});
  tensors.push_back(
      {name + ".qzeros", "I32", {k / 128, rows / 8}, std::string(rows * k / 256, '\x77')});
  tensors.push_back({name + ".scales", "F16", {k / 128, rows}, std::string(rows * k / 64, '\x11')});
}

constexpr int64_t kHidden = 1024;
constexpr int64_t kInner = 8192;

std::vector<TensorToWrite> WideGptqModel() {
  std::vector<TensorToWrite> tensors;
  const auto zeros = [&](const std::string& name, std::vector<int64_t> shape, int64_t size) {
    tensors.push_back({name, "BF16", std::move(shape), std::string(size * 2, '\0')});
  };
  zeros("model.embed_tokens.weight", {64, kHidden}, 64 * kHidden);
  zeros("lm_head.weight", {64, kHidden}, 64 * kHidden);
  zeros("model.norm.weight", {kHidden}, kHidden);
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    zeros(layer + "input_layernorm.weight", {kHidden}, kHidden);
    zeros(layer + "post_attention_layernorm.weight", {kHidden}, kHidden);
    for (const char* name : {"q", "k", "v", "o"}) {
      AddGptqLayer(layer + "self_attn." + name + "_proj", kHidden, kHidden, tensors);
    }
    AddGptqLayer(layer + "mlp.gate_proj", kInner, kHidden, tensors);
    AddGptqLayer(layer + "mlp.up_proj", kInner, kHidden, tensors);
    AddGptqLayer(layer + "mlp.down_proj", kHidden, kInner, tensors);
  }
  return tensors;
}

/// A llama whose matrices are blocks of zeros of `type`.
std::string WideGgufModel(GgmlType type) {
  const GgmlTypeInfo block = *FindGgmlType(static_cast<uint32_t>(type));
  GgufWriter writer;
  writer.AddString("general.architecture", "llama");
  writer.AddInt("llama.context_length", 512);
  writer.AddInt("llama.embedding_length", kHidden);
  writer.AddInt("llama.block_count", 2);
  writer.AddInt("llama.feed_forward_length", kInner);
  writer.AddInt("llama.attention.head_count", 8);
  writer.AddInt("llama.attention.head_count_kv", 8);
  writer.AddFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto matrix = [&](const std::string& name, uint64_t rows, uint64_t k) {
    writer.AddTensor(name, type, {rows, k},
                     std::string(rows * k / block.block_size * block.block_bytes, '\0'));
  };
  const auto norm = [&](const std::string& name) {
    writer.AddTensor(name, GgmlType::kF32, {kHidden}, std::string(kHidden * 4, '\0'));
  };
  matrix("token_embd.weight", 64, kHidden);
  matrix("output.weight", 64, kHidden);
  norm("output_norm.weight");
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    norm(layer + "attn_norm.weight");
    norm(layer + "ffn_norm.weight");
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
      matrix(layer + name + ".weight", kHidden, kHidden);
    matrix(layer + "ffn_gate.weight", kInner, kHidden);
    matrix(layer + "ffn_up.weight", kInner, kHidden);
    matrix(layer + "ffn_down.weight", kHidden, kInner);
  }
  return writer.Bytes();
}

/// Loads `path`; its matrices stay at `bits` per weight, or less.
void ExpectLoadsWithinBounds(const std::string& path, double bits) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer keeps memory of its own";
  WorkerPool pool(2);
  LoadOptions load;
  load.model_dir = path;
  load.pool = &pool;
  const int64_t before = AnonymousBytes();
  std::atomic<int64_t> peak = before;
  std::atomic<bool> done = false;
  std::jthread watch([&] {
    while (!done) peak = std::max<int64_t>(peak, AnonymousBytes());
  });
  const auto model = LoadModel(load);
  done = true;
  watch.join();
  ASSERT_TRUE(model.ok()) << model.status();
  const int64_t final_size = AnonymousBytes() - before;
  constexpr int64_t kWeights = 2 * (4 * kHidden * kHidden + 3 * kHidden * kInner);
  std::printf("%.1f MiB final, peak %.1f MiB over it\n",
              static_cast<double>(final_size) / kMebibyte,
              static_cast<double>(peak - before - final_size) / kMebibyte);
  EXPECT_LT(static_cast<double>(final_size), kWeights * bits / 8) << "codes are kept as such";
  EXPECT_LE(peak - before, final_size + 8 * kMebibyte);
}

TEST(QuantizedMemory, GptqPeaksAtTheFinalSizeAndABoundedRest) {
  const TempDir dir;
  dir.Write("config.json", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 1024,
    "intermediate_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 8, "vocab_size": 64, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}})");
  dir.Write("model.safetensors", SafetensorsFile(WideGptqModel()));
  ExpectLoadsWithinBounds(dir.path(), 5);
}

TEST(QuantizedMemory, GgufPeaksAtTheFinalSizeAndABoundedRest) {
  const TempDir dir;
  ExpectLoadsWithinBounds(dir.Write("q4.gguf", WideGgufModel(GgmlType::kQ4_K)), 7);
  ExpectLoadsWithinBounds(dir.Write("q8.gguf", WideGgufModel(GgmlType::kQ8_0)), 10);
}

}  // namespace
}  // namespace penstock
