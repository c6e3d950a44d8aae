// Every part that a tokenizer.json can name, on small tokenizers, against Hugging Face's ids and
// texts; and the demo model's tokenizer.
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "text/detokenizer.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

TEST(TokenizerFeatures, EveryPartEncodesAndDecodesAsTheReference) {
  std::ifstream in(std::string(PENSTOCK_SOURCE_DIR) + "/tests/unit/text/tokenizer_cases.json");
  const auto file = nlohmann::json::parse(in);
  ASSERT_GE(file["cases"].size(), 60u);
  for (const auto& c : file["cases"]) {
    nlohmann::json config = c["tokenizer"];
    std::vector<std::string> tokens = file["vocab"];
    for (const auto& token : config["model"]["extra_vocab"]) tokens.push_back(token);
    for (size_t i = 0; i < tokens.size(); ++i) config["model"]["vocab"][tokens[i]] = i;
    const auto tokenizer = ParseTokenizer(config.dump());
    config["model"]["vocab"] = nullptr;
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status() << "\n" << config.dump();
    for (const auto& row : c["rows"]) {
      const std::string text = row[0];
      EXPECT_EQ((*tokenizer)->Encode(text, false), row[1].get<std::vector<TokenId>>())
          << text << "\n"
          << config.dump();
      EXPECT_EQ((*tokenizer)->Encode(text, true), row[2].get<std::vector<TokenId>>())
          << text << "\n"
          << config.dump();
      EXPECT_EQ((*tokenizer)->Decode(row[1].get<std::vector<TokenId>>(), false),
                row[3].get<std::string>())
          << text << "\n"
          << config.dump();
      EXPECT_EQ((*tokenizer)->Decode(row[2].get<std::vector<TokenId>>(), true),
                row[4].get<std::string>())
          << text << "\n"
          << config.dump();
    }
  }
}

TEST(TokenizerFeatures, DemoTokenizerRoundTripsAnyTextWholeAndStreamed) {
  const auto tokenizer =
      LoadTokenizer(std::string(PENSTOCK_SOURCE_DIR) + "/models/demo/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 4096);
  EXPECT_EQ((*tokenizer)->TokenToId("<|end|>"), 2);
  EXPECT_TRUE((*tokenizer)->is_special(2));
  for (const std::string text :
       {"", "Hello w\u00F6rld", "\u65E5\u672C\u8A9E \U0001F600 <|user|>hi<|end|>",
        "\xFF\xFE bad"}) {
    const std::vector<TokenId> ids = (*tokenizer)->Encode(text, false);
    Detokenizer detokenizer(tokenizer->get(), false);
    std::string streamed;
    for (const TokenId id : ids) streamed += detokenizer.Append(id);
    streamed += detokenizer.Finish();
    EXPECT_EQ(streamed, (*tokenizer)->Decode(ids, false));
    if (text.find('\xFF') == std::string::npos) {
      EXPECT_EQ(streamed, text);
    }
  }
  EXPECT_EQ((*tokenizer)->Encode("a", true).front(), 1);
}

TEST(TokenizerFeatures, AMegabyteWithoutSpacesEncodes) {
  const auto tokenizer =
      LoadTokenizer(std::string(PENSTOCK_SOURCE_DIR) + "/models/demo/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string text(1 << 20, 'a');
  EXPECT_EQ((*tokenizer)->Decode((*tokenizer)->Encode(text, false), false), text);
}

TEST(TokenizerFeatures, RefusesWhatItCannotRead) {
  for (const char* text :
       {"", "[]", "{", "{\"model\":5}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":16000000},\"merges\":[]}}",
        "{\"model\":{\"type\":\"Sixgram\",\"vocab\":[]}}",
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",0]]}}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0,1]]}}",
        "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":99999999}}}",
        "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"},"
        "\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]]}}"}) {
    EXPECT_FALSE(ParseTokenizer(text).ok()) << text;
  }
}

}  // namespace
}  // namespace penstock
