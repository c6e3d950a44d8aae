#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "executor/load_model.h"
#include "fakes/safetensors_writer.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr char kConfig[] = R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 64,
  "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 64,
  "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false})";

std::string ModelBytes(uint32_t seed) {
  std::vector<TensorToWrite> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t size = 1;
    for (const int64_t dim : shape) size *= dim;
    std::vector<float> values(size);
    for (float& v : values) {
      seed = seed * 1664525u + 1013904223u;
      v = static_cast<float>(static_cast<int32_t>(seed)) * 0x1p-33f;
    }
    tensors.push_back({name, "F32", shape, BytesOf(values)});
  };
  add("model.embed_tokens.weight", {300, 64});
  for (const std::string p : {"model.layers.0.", "model.layers.1."}) {
    add(p + "input_layernorm.weight", {64});
    add(p + "post_attention_layernorm.weight", {64});
    for (const auto& [name, rows] : {std::pair("q", 64), std::pair("k", 32), std::pair("v", 32)}) {
      add(p + "self_attn." + name + "_proj.weight", {rows, 64});
      add(p + "self_attn." + name + "_proj.bias", {rows});
    }
    add(p + "self_attn.o_proj.weight", {64, 64});
    add(p + "mlp.gate_proj.weight", {128, 64});
    add(p + "mlp.up_proj.weight", {128, 64});
    add(p + "mlp.down_proj.weight", {64, 128});
  }
  add("model.norm.weight", {64});
  add("lm_head.weight", {300, 64});
  return SafetensorsFile(tensors);
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class PackedCache : public ::testing::Test {
 protected:
  PackedCache() {
    model_.Write("config.json", kConfig);
    model_.Write("model.safetensors", ModelBytes(1));
    load_.model_dir = model_.path();
    load_.packed_cache = cache_.path() + "/weights";
    load_.quantize = "int8";
    load_.build = "1";
    load_.pool = &pool_;
  }

  std::unique_ptr<LoadedModel> Load() {
    auto model = LoadModel(load_);
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }

  /// All that was packed, with what says how.
  static std::string Packed(const LoadedModel& model) {
    std::string all;
    const auto add = [&](const PackedLinear& w) {
      size_t bytes = 0;
      for (const LinearSegment& s : w.segments) {
        all += std::to_string(s.byte_begin) + " " + std::to_string(s.num_rows) + " " +
               std::to_string(static_cast<int>(s.scale_type)) + "\n";
        const bool codes = s.format == WeightFormat::kCodes8 || s.format == WeightFormat::kCodes4;
        bytes = s.byte_begin + s.num_rows * w.k / (codes ? 2 : 1);  // at least so many
      }
      all.append(static_cast<const char*>(w.weight.data()), bytes);
      if (w.bias.data() != nullptr) {
        all.append(static_cast<const char*>(w.bias.data()), w.n * sizeof(float));
      }
    };
    for (const LayerWeights& layer : model.weights.layers) {
      for (const PackedLinear* w : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) add(*w);
    }
    add(model.weights.lm_head);
    if (model.weights.packed_embedding.n > 0) add(model.weights.packed_embedding);
    return all;
  }

  std::string File() const {
    std::string only;
    for (const auto& entry : std::filesystem::directory_iterator(load_.packed_cache)) {
      EXPECT_EQ(only, "") << entry.path();
      only = entry.path();
    }
    return only;
  }

  void Overwrite(const std::string& bytes) const {
    std::ofstream(File(), std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  TempDir model_, cache_;
  WorkerPool pool_{2};
  LoadOptions load_;
};

TEST_F(PackedCache, GivesTheSameWeightsInEveryForm) {
  for (const char* form : {"none", "int8", "int8-channel", "int4", "int4-128"}) {
    load_.quantize = form;
    const std::string folder = std::exchange(load_.packed_cache, "");
    const auto plain = Load();
    EXPECT_EQ(plain->packed_file, "");
    load_.packed_cache = folder;
    const auto first = Load();
    EXPECT_EQ(first->packed_file, "written") << first->note;
    const auto second = Load();
    EXPECT_EQ(second->packed_file, "read") << second->note;
    EXPECT_EQ(second->packed_bytes, first->packed_bytes);
    EXPECT_EQ(first->note + second->note, "");
    EXPECT_EQ(Packed(*first), Packed(*plain)) << form;
    EXPECT_EQ(Packed(*second), Packed(*plain)) << form;
  }
}

TEST_F(PackedCache, FindsAFlippedBitAnywhereAndBuildsTheFileAnew) {
  const std::string expected = Packed(*Load());
  const std::string whole = ReadAll(File());
  ASSERT_GT(whole.size(), 20000u);
  for (size_t at = 0; at < whole.size(); at += at < 256 ? 3 : 1009) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1 << at % 8);
    Overwrite(damaged);
    const auto model = Load();
    ASSERT_THAT(model->note, HasSubstr("is built anew")) << at;
    ASSERT_EQ(model->packed_file, "written") << at;
    ASSERT_EQ(Packed(*model), expected) << at;
    ASSERT_EQ(ReadAll(File()), whole) << at;
  }
}

TEST_F(PackedCache, FindsAFileThatIsCutOrLonger) {
  Load();
  const std::string whole = ReadAll(File());
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{5000},
                            whole.size() / 2, whole.size() - 1}) {
    Overwrite(whole.substr(0, size));
    EXPECT_THAT(Load()->note, HasSubstr("is built anew")) << size;
  }
  Overwrite(whole + "x");
  EXPECT_THAT(Load()->note, HasSubstr("is built anew"));
  EXPECT_EQ(Load()->packed_file, "read");
}

TEST_F(PackedCache, IsBuiltAnewForOtherContentConfigOrProgram) {
  Load();
  model_.Write("model.safetensors", ModelBytes(2));
  EXPECT_THAT(Load()->note, HasSubstr("another model, form or program"));
  EXPECT_EQ(Load()->packed_file, "read");
  std::string config = kConfig;
  config.replace(config.find("10000.0"), 7, "20000.0");
  model_.Write("config.json", config);
  EXPECT_EQ(Load()->packed_file, "written");
  load_.build = "2";
  EXPECT_EQ(Load()->packed_file, "written");
  EXPECT_EQ(Load()->packed_file, "read");
  EXPECT_NE(File(), "");  // one file: the name is the path's and the form's
}

TEST_F(PackedCache, FailsToWriteWithANoteAlone) {
  load_.packed_cache = model_.Write("a_file", "");
  const auto model = Load();
  EXPECT_THAT(model->note, HasSubstr("packed weights are not kept: "));
  EXPECT_EQ(model->packed_file, "");
}

TEST_F(PackedCache, LeavesTheFileToAnotherProcessThatWritesIt) {
  Load();
  const std::string partial = File() + ".partial";
  std::filesystem::remove(File());
  const int fd = ::open(partial.c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  EXPECT_THAT(Load()->note, HasSubstr("written by another process"));
  EXPECT_TRUE(std::filesystem::exists(partial));
  ::close(fd);
  EXPECT_EQ(Load()->packed_file, "written");  // over what a crash left
  EXPECT_FALSE(std::filesystem::exists(partial));
}

}  // namespace
}  // namespace penstock
