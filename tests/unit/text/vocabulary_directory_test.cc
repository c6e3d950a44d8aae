// Directories with vocab.txt, or vocab.json and merges.txt, against transformers' ids.
#include "text/vocabulary_directory.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fakes/safetensors_writer.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using Json = nlohmann::json;
using Files = std::vector<std::pair<std::string, std::string>>;

TokenizerOptions OptionsOf(const Json& config) {
  TokenizerOptions options;
  if (!config.contains("added_tokens_decoder")) return options;
  for (const auto& [id, entry] : config["added_tokens_decoder"].items()) {
    AddedToken token;
    token.id = std::stoi(id);
    token.content = entry["content"];
    token.special = entry["special"];
    options.added_tokens.push_back(std::move(token));
  }
  return options;
}

TEST(VocabularyDirectory, EncodesAsTheReference) {
  std::ifstream in(std::string(PENSTOCK_SOURCE_DIR) +
                   "/tests/unit/text/vocabulary_directory_cases.json");
  const Json cases = Json::parse(in);
  ASSERT_GE(cases.size(), 7u);
  for (const Json& c : cases) {
    const TempDir dir;
    for (const auto& [name, text] : c["files"].items()) dir.Write(name, text.get<std::string>());
    const std::string config_text = c["files"]["tokenizer_config.json"];
    const Json config = Json::parse(config_text);
    ASSERT_TRUE(HasVocabularyFiles(dir.path()));
    const auto tokenizer = LoadVocabularyFiles(dir.path(), config, OptionsOf(config));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status() << config_text;
    for (const Json& row : c["rows"]) {
      const std::string text = row[0];
      EXPECT_EQ((*tokenizer)->Encode(text, false), row[1].get<std::vector<TokenId>>())
          << text << config_text;
      EXPECT_EQ((*tokenizer)->Encode(text, true), row[2].get<std::vector<TokenId>>())
          << text << config_text;
    }
  }
}

std::string ErrorOf(const Files& files, const Json& config = Json::object(),
                    const TokenizerOptions& options = {}) {
  const TempDir dir;
  for (const auto& [name, text] : files) dir.Write(name, text);
  return std::string(LoadVocabularyFiles(dir.path(), config, options).status().message());
}

TEST(VocabularyDirectory, SaysWhatIsWrongWithAFile) {
  const Files good = {{"vocab.json", R"({"a": 0, "b": 1, "ab": 2})"}, {"merges.txt", "a b\n"}};
  EXPECT_EQ(ErrorOf(good), "");
  EXPECT_NE(ErrorOf(good, {{"tokenizer_class", "CLIPTokenizer"}}).find("CLIPTokenizer"),
            std::string::npos);
  EXPECT_NE(ErrorOf(good, {{"tokenizer_class", "RobertaTokenizer"}}).find("</s>"),
            std::string::npos);
  EXPECT_NE(ErrorOf(good, {{"add_prefix_space", 5}}).find("add_prefix_space"), std::string::npos);
  TokenizerOptions options;
  options.added_tokens.push_back({.id = 9, .content = "<x>"});
  EXPECT_NE(ErrorOf(good, Json::object(), options).find("has id 9"), std::string::npos);
  EXPECT_NE(ErrorOf({{"vocab.txt", "[UNK]\n[CLS]\nthe\n"}}).find("[SEP]"), std::string::npos);
  EXPECT_NE(ErrorOf({{"vocab.txt", "[CLS]\n[SEP]\nthe\n"}}).find("[UNK]"), std::string::npos);
  EXPECT_NE(ErrorOf({{"vocab.txt", "[CLS]\n\xFF\n"}}).find("UTF-8"), std::string::npos);
  EXPECT_NE(ErrorOf({{"vocab.json", "[]"}, {"merges.txt", ""}}).find("JSON object"),
            std::string::npos);
  EXPECT_NE(ErrorOf({{"vocab.json", "{\"a\": -1}"}, {"merges.txt", ""}}).find("expected an id"),
            std::string::npos);
  EXPECT_NE(ErrorOf({{"vocab.json", "{\"a\": 0}"}, {"merges.txt", "a c\n"}}).find("merges"),
            std::string::npos);
}

}  // namespace
}  // namespace penstock
