// Pre-tokenizers of several steps against the pieces of Hugging Face's.
#include "text/pretokenizer.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace penstock {
namespace {

std::vector<std::string> PiecesOf(const PreTokenizer& pre_tokenizer, const std::string& text) {
  PreTokenized input{text, {{0, text.size()}}, /*starts_input=*/true};
  pre_tokenizer.Apply(&input);
  std::vector<std::string> pieces;
  for (const TextRange& piece : input.pieces) pieces.emplace_back(input.Piece(piece));
  return pieces;
}

TEST(PreTokenizer, StepsInARowCutAsTheReference) {
  std::ifstream in(std::string(PENSTOCK_SOURCE_DIR) + "/tests/unit/text/pretokenizer_cases.json");
  const auto file = nlohmann::json::parse(in);
  ASSERT_GE(file["cases"].size(), 15u);
  for (const auto& c : file["cases"]) {
    const auto pre_tokenizer = MakePreTokenizer(c["config"]);
    ASSERT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
    for (size_t i = 0; i < file["texts"].size(); ++i) {
      EXPECT_EQ(PiecesOf(**pre_tokenizer, file["texts"][i]),
                c["pieces"][i].get<std::vector<std::string>>())
          << c["config"] << "\n"
          << file["texts"][i];
    }
  }
}

TEST(PreTokenizer, StepsAroundTheByteLevelOneBecomeOneWhereTheyOnlyCut) {
  const auto joins = [](const char* steps) {
    const auto made =
        MakePreTokenizer({{"type", "Sequence"}, {"pretokenizers", nlohmann::json::parse(steps)}});
    return (*made)->as_byte_level() != nullptr;
  };
  EXPECT_TRUE(joins(R"([{"type":"Punctuation"},{"type":"ByteLevel","add_prefix_space":false},
                        {"type":"Digits"}])"));
  EXPECT_FALSE(joins(R"([{"type":"Digits"},{"type":"ByteLevel","add_prefix_space":true}])"));
  EXPECT_FALSE(joins(R"([{"type":"ByteLevel","add_prefix_space":false},{"type":"Metaspace"}])"));
  EXPECT_FALSE(joins(R"([{"type":"Digits"},{"type":"Punctuation"}])"));
}

TEST(PreTokenizer, AStepOfAWrongTypeIsRefused) {
  for (const char* step :
       {"{}", "5", R"({"type":false})", R"({"type":"Split","pattern":{"Regex":5}})",
        R"({"type":"Split","pattern":{"Regex":"a"},"behavior":1})",
        R"({"type":"Split","pattern":{"Regex":"a"},"behavior":"Isolated","invert":"no"})"}) {
    const nlohmann::json plain = {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const auto made = MakePreTokenizer(
        {{"type", "Sequence"}, {"pretokenizers", {nlohmann::json::parse(step), plain}}});
    EXPECT_FALSE(made.ok()) << step;
  }
  EXPECT_TRUE(MakePreTokenizer({{"type", "Split"},
                                {"pattern", {{"Regex", "a"}}},
                                {"behavior", "Isolated"},
                                {"invert", nullptr}})
                  .ok());
}

}  // namespace
}  // namespace penstock
