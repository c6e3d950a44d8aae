// Unigram, WordPiece, SentencePiece models and their normalizers on small trained tokenizers,
// against what their makers' own libraries do.
#include <cstdlib>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"
#include "text/detokenizer.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer_loader.h"
#include "unit/text/vectors.h"

namespace penstock {
namespace {

using Ids = std::vector<TokenId>;

// The folder of the cases; another one of the same form can be named.
nlohmann::json ReadCases(const std::string& name) {
  const char* dir = std::getenv("PENSTOCK_TOKENIZER_CASES");
  const std::string folder =
      dir != nullptr ? dir : std::string(PENSTOCK_SOURCE_DIR) + "/tests/unit/text";
  std::ifstream in(folder + "/" + name);
  return nlohmann::json::parse(in);
}

std::string Unbase64(const std::string& text) {
  std::string bytes;
  EXPECT_TRUE(absl::Base64Unescape(text, &bytes));
  return bytes;
}

TEST(TokenizerModels, TokenizerJsonOfEveryModelTypeEncodesAndDecodesAsTheReference) {
  const nlohmann::json cases = ReadCases("model_cases.json");
  ASSERT_GE(cases.size(), 10u);
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto tokenizer = ParseTokenizer(cases[i]["tokenizer"].dump());
    ASSERT_TRUE(tokenizer.ok()) << i << " " << tokenizer.status();
    for (const auto& row : cases[i]["rows"]) {
      const std::string text = row[0];
      const Ids ids = row[1];
      const Ids ids_special = row[2];
      EXPECT_EQ((*tokenizer)->Encode(text, false), ids) << i << " " << row[0];
      EXPECT_EQ((*tokenizer)->Encode(text, true), ids_special) << i << " " << row[0];
      EXPECT_EQ((*tokenizer)->Decode(ids, false), row[3].get<std::string>()) << i;
      EXPECT_EQ((*tokenizer)->Decode(ids_special, true), row[4].get<std::string>()) << i;
    }
  }
}

TEST(TokenizerModels, SentencePieceModelsEncodeAndDecodeAsTheReference) {
  const nlohmann::json cases = ReadCases("sentencepiece_cases.json");
  ASSERT_GE(cases.size(), 8u);
  SentencePieceOptions options;
  for (size_t i = 0; i < cases.size(); ++i) {
    auto model = ParseSentencePieceModel(Unbase64(cases[i]["model"]));
    ASSERT_TRUE(model.ok()) << i << " " << model.status();
    const auto tokenizer = MakeSentencePieceTokenizer(*std::move(model), options);
    ASSERT_TRUE(tokenizer.ok()) << i << " " << tokenizer.status();
    for (const auto& row : cases[i]["rows"]) {
      const Ids ids = row[1];
      EXPECT_EQ((*tokenizer)->Encode(row[0].get<std::string>(), false), ids) << i << " " << row[0];
      EXPECT_EQ((*tokenizer)->Decode(ids, true), row[2].get<std::string>()) << i << " " << row[0];
    }
  }
}

TEST(TokenizerModels, LlamaModelFileAgreesWithItsTokenizerJson) {
  const std::string path = SharedTokenizerDir() + "llama2/tokenizer.model";
  const std::vector<TokenizerVector> vectors = ReadVectors("llama2");
  if (vectors.empty() || !FileExists(path)) GTEST_SKIP() << "no shared data at " << path;
  const auto tokenizer = LoadTokenizer(path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  int compared = 0;
  for (const TokenizerVector& v : vectors) {
    // The two find special tokens differently, by definition.
    if (v.text.empty() || v.text.find("<s>") != std::string::npos ||
        v.text.find("</s>") != std::string::npos || v.text.find("<unk>") != std::string::npos) {
      continue;
    }
    ++compared;
    EXPECT_EQ((*tokenizer)->Encode(v.text, false), v.ids) << v.text;
    EXPECT_EQ((*tokenizer)->Encode(v.text, true), v.ids_special) << v.text;
    EXPECT_EQ((*tokenizer)->Decode(v.ids, false), v.decoded) << v.text;
  }
  EXPECT_GT(compared, 400);
}

TEST(TokenizerModels, RefusesBrokenSentencePieceModels) {
  const nlohmann::json cases = ReadCases("sentencepiece_cases.json");
  const std::string whole = Unbase64(cases[0]["model"]);
  EXPECT_FALSE(ParseSentencePieceModel("").ok());
  EXPECT_FALSE(ParseSentencePieceModel("not a model").ok());
  EXPECT_FALSE(ParseSentencePieceModel(whole.substr(0, whole.size() / 2)).ok());
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, SentencePiece::Type::kUnknown}, {"a", -1}};
  model.bos_id = 7;
  EXPECT_FALSE(MakeSentencePieceTokenizer(model, {}).ok());
  model.bos_id.reset();
  model.charsmap = "abc";
  EXPECT_FALSE(MakeSentencePieceTokenizer(model, {}).ok());
  model.charsmap.clear();
  EXPECT_TRUE(MakeSentencePieceTokenizer(model, {}).ok());
  model.algorithm = SentencePieceModel::Algorithm::kWord;
  EXPECT_FALSE(MakeSentencePieceTokenizer(model, {}).ok());
}

}  // namespace
}  // namespace penstock
