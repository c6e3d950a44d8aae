#include "model/families.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "fakes/tiny_model.h"
#include "model/gguf_architecture.h"

namespace penstock {
namespace {

TEST(Families, ThePageOfModelsHasTheTableThatInspectPrints) {
  std::ifstream in(std::string(PENSTOCK_SOURCE_DIR) + "/docs/models.md");
  std::stringstream page;
  page << in.rdbuf();
  std::string table = "| architecture | models |\n|---|---|\n";
  for (const Family& family : Families()) {
    absl::StrAppend(&table, "| `", ToAbsl(family.architecture), "` | ", ToAbsl(family.title),
                    " |\n");
  }
  EXPECT_NE(page.str().find(table), std::string::npos)
      << "put the output of penstock inspect --families into docs/models.md:\n"
      << table;
  EXPECT_NE(page.str().find("GGUF architectures: " + KnownGgufArchitectures() + "."),
            std::string::npos)
      << "put into one line of docs/models.md: GGUF architectures: " << KnownGgufArchitectures()
      << ".";
}

TEST(Families, AreFoundByArchitectureAndByTheModelTypeOfALanguagePart) {
  EXPECT_EQ(FindFamily("Gemma2ForCausalLM", "")->model_type, "gemma2");
  EXPECT_EQ(FindFamily("", "gemma2")->architecture, "Gemma2ForCausalLM");
  EXPECT_EQ(FindFamily("Mistral3ForConditionalGeneration", "ministral3")->architecture,
            "Ministral3ForCausalLM");
  EXPECT_EQ(FindFamily("Gemma3ForConditionalGeneration", "gemma3_text")->architecture,
            "Gemma3ForCausalLM");
  EXPECT_EQ(FindFamily("Qwen3VLForConditionalGeneration", "qwen3_vl_text")->architecture,
            "Qwen3ForCausalLM");
  EXPECT_EQ(FindFamily("MambaForCausalLM", "llama"), nullptr);
}

TEST(Families, HubFilesMayLeaveOutWhatTheirFamilyTakesForGranted) {
  const auto config = ParseModelConfig(
      R"({"architectures": ["Gemma3ForConditionalGeneration"], "torch_dtype": "bfloat16",
          "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
          "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
          "sliding_window": 1024}})",
      "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->layers[0].heads.head_dim, 256);
  EXPECT_EQ(config->layers[0].window, 1024);
  EXPECT_EQ(config->layers[5].window, 0);
  EXPECT_EQ(config->ropes[0].theta, 1e6);
  EXPECT_EQ(config->ropes[0].factor, 8.0);
  EXPECT_EQ(config->ropes[1].theta, 1e4);
  EXPECT_EQ(config->ropes[1].type, RopeType::kDefault);
  EXPECT_EQ(config->file_dtype, DType::kBFloat16);
  EXPECT_TRUE(config->tied_embeddings);
}

TEST(Families, RefuseByNameWhatTheyDoNotHave) {
  const auto error = [](const std::string& architecture, const std::string& extra) {
    return ParseModelConfig(TinyConfig(architecture, extra), "config.json").status().ToString();
  };
  EXPECT_NE(error("Gemma4ForCausalLM", "\"hidden_size_per_layer_input\": 8,")
                .find("hidden_size_per_layer_input"),
            std::string::npos);
  EXPECT_NE(error("OlmoeForCausalLM",
                  "\"clip_qkv\": 8, \"num_experts\": 4, "
                  "\"num_experts_per_tok\": 2,")
                .find("clip_qkv"),
            std::string::npos);
  EXPECT_NE(error("MixtralForCausalLM", "\"num_local_experts\": 4, \"num_experts_per_tok\": 5,")
                .find("num_experts_per_tok"),
            std::string::npos);
  EXPECT_NE(error("Olmo3ForCausalLM", "\"layer_types\": [\"full_attention\"],").find("layer_types"),
            std::string::npos);
  EXPECT_NE(error("Phi3ForCausalLM",
                  "\"rope_scaling\": {\"type\": \"longrope\", "
                  "\"short_factor\": [1], \"long_factor\": [1]},")
                .find("short_factor"),
            std::string::npos);
}

}  // namespace
}  // namespace penstock
