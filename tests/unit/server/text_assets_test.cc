#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fakes/safetensors_writer.h"
#include "server/model_instance.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using Ids = std::vector<TokenId>;

/// A byte-level BPE of three letters and one special token.
void WriteBytePairs(const TempDir& dir) {
  dir.Write("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})");
  dir.Write("merges.txt", "#version: 0.2\na b\n");
}

void WriteWords(const TempDir& dir) {
  dir.Write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nword\n");
}

std::string ErrorOf(const TempDir& dir) {
  return std::string(LoadTextAssets(dir.path(), "").status().message());
}

TEST(TextAssets, ReadAddedTokensBesideAVocabulary) {
  const TempDir dir;
  WriteBytePairs(dir);
  // Out of the order of their ids; one is in the vocabulary already.
  dir.Write("added_tokens.json", R"({"<|im_end|>": 5, "<|endoftext|>": 3, "<|im_start|>": 4,
                                     "<plain>": 6})");
  dir.Write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer",
      "eos_token": {"content": "<|im_end|>"}})");
  dir.Write("special_tokens_map.json",
            R"({"additional_special_tokens": ["<|im_start|>", {"content": "<|endoftext|>"}, 7]})");
  const auto assets = LoadTextAssets(dir.path(), "");
  ASSERT_TRUE(assets.ok()) << assets.status();
  const Tokenizer& tokenizer = *assets->tokenizer;
  EXPECT_EQ(tokenizer.Encode("<|im_start|>ab<plain>b<|im_end|>", false), (Ids{4, 2, 6, 1, 5}));
  EXPECT_EQ(tokenizer.Decode(Ids{4, 2, 6, 5}, true), "ab<plain>");
  EXPECT_TRUE(tokenizer.is_special(3));
  EXPECT_FALSE(tokenizer.is_special(6));
  EXPECT_EQ(assets->eos_token, "<|im_end|>");
  EXPECT_EQ(assets->defaults.eos_token_ids, (Ids{5}));
}

TEST(TextAssets, AddedTokensThatAreNotSpecialAreFoundInNormalizedText) {
  const TempDir dir;
  WriteWords(dir);
  dir.Write("added_tokens.json", R"({"New": 6, "[X]": 7})");
  dir.Write("tokenizer_config.json", R"({"additional_special_tokens": ["[X]"]})");
  const auto assets = LoadTextAssets(dir.path(), "");
  ASSERT_TRUE(assets.ok()) << assets.status();
  EXPECT_EQ(assets->tokenizer->Encode("word NEW [X] [x]", true), (Ids{2, 5, 6, 7, 1, 1, 1, 3}));
}

TEST(TextAssets, TheConfigurationsOwnAddedTokensComeBeforeTheFile) {
  const TempDir dir;
  WriteBytePairs(dir);
  dir.Write("added_tokens.json", R"({"<old>": 4})");
  // As text, the second key sorts before the first.
  dir.Write("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3, "c": 4, "d": 5, "e": 6,
                              "f": 7, "g": 8})");
  dir.Write("tokenizer_config.json", R"({"added_tokens_decoder": {
      "9": {"content": "<nine>", "special": true}, "10": {"content": "<ten>", "special": true}}})");
  const auto assets = LoadTextAssets(dir.path(), "");
  ASSERT_TRUE(assets.ok()) << assets.status();
  EXPECT_EQ(assets->tokenizer->Encode("<nine><ten>", false), (Ids{9, 10}));
  EXPECT_EQ(assets->tokenizer->TokenToId("<old>"), std::nullopt);
}

TEST(TextAssets, AddedTokensThatDoNotFitAreRefused) {
  for (const char* text : {R"({"<x>": "4"})", R"({"<x>": -1})", R"({"<x>": 99999999})",
                           R"({"<x>": 1.5})", R"({"": 4})", R"({"<x>": [4]})", R"(["<x>"])", "{"}) {
    const TempDir dir;
    WriteBytePairs(dir);
    dir.Write("added_tokens.json", text);
    EXPECT_THAT(ErrorOf(dir), HasSubstr("added_tokens.json: ")) << text;
  }
  const TempDir dir;
  WriteBytePairs(dir);
  dir.Write("added_tokens.json", R"({"<x>": 9})");
  EXPECT_THAT(ErrorOf(dir), HasSubstr("added token \"<x>\" has id 9, expected"));
}

TEST(TextAssets, SpecialTokensThatAreNoTextAreNone) {
  for (const char* token :
       {"7", "[1, 2]", "[\"<|endoftext|>\"]", "{}", "{\"content\": 5}", "{\"content\": null}",
        "{\"content\": [\"x\"]}", "null", "true", "1e400", "{\"lstrip\": false}"}) {
    const TempDir dir;
    WriteBytePairs(dir);
    dir.Write("tokenizer_config.json",
              std::string(R"({"bos_token": )") + token + R"(, "eos_token": )" + token + "}");
    const auto assets = LoadTextAssets(dir.path(), "");
    if (std::string(token) == "1e400") {  // no number of JSON
      EXPECT_THAT(ErrorOf(dir), HasSubstr("tokenizer_config.json: expected a JSON object"));
      continue;
    }
    ASSERT_TRUE(assets.ok()) << token << ": " << assets.status();
    EXPECT_EQ(assets->bos_token, "") << token;
    EXPECT_EQ(assets->eos_token, "") << token;
    EXPECT_TRUE(assets->defaults.eos_token_ids.empty()) << token;
    EXPECT_EQ(assets->tokenizer->Encode("ab", true), (Ids{2})) << token;
  }
}

TEST(TextAssets, TokensOfWordsThatAreNoTextAreTheUsualOnes) {
  const TempDir dir;
  WriteWords(dir);
  dir.Write("tokenizer_config.json",
            R"({"unk_token": 1, "cls_token": ["[CLS]"], "sep_token": {"content": 3}})");
  const auto assets = LoadTextAssets(dir.path(), "");
  ASSERT_TRUE(assets.ok()) << assets.status();
  EXPECT_EQ(assets->tokenizer->Encode("word other", true), (Ids{2, 5, 1, 3}));
}

}  // namespace
}  // namespace penstock
