// Real tokenizers against Hugging Face's ids and texts.
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "text/detokenizer.h"
#include "text/tokenizer_loader.h"
#include "unit/text/vectors.h"

namespace penstock {
namespace {

std::string Stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip_special) {
  Detokenizer detokenizer(&tokenizer, skip_special);
  std::string text;
  for (const TokenId id : ids) text += detokenizer.Append(id);
  return text + detokenizer.Finish();
}

class TokenizerVectors : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerVectors, EncodesAndDecodesAsTheReference) {
  const std::string path = SharedTokenizerDir() + GetParam() + "/tokenizer.json";
  const std::vector<TokenizerVector> vectors = ReadVectors(GetParam());
  if (vectors.empty() || !FileExists(path)) GTEST_SKIP() << "no shared data at " << path;
  const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ASSERT_EQ(vectors.size(), 500u);
  for (const TokenizerVector& v : vectors) {
    EXPECT_EQ((*tokenizer)->Encode(v.text, false), v.ids) << v.text;
    EXPECT_EQ((*tokenizer)->Encode(v.text, true), v.ids_special) << v.text;
    EXPECT_EQ((*tokenizer)->Decode(v.ids, false), v.decoded) << v.text;
    EXPECT_EQ((*tokenizer)->Decode(v.ids_special, true), v.decoded_skip) << v.text;
    EXPECT_EQ(Stream(**tokenizer, v.ids, false), v.decoded) << v.text;
    EXPECT_EQ(Stream(**tokenizer, v.ids_special, true), v.decoded_skip) << v.text;
  }
}

INSTANTIATE_TEST_SUITE_P(Shared, TokenizerVectors,
                         testing::Values("gpt2", "llama2", "mistral-v0.3", "phi-3", "falcon",
                                         "gpt-neox", "llama3.1", "qwen2.5", "qwen3", "gpt-oss",
                                         "phi-4"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) {
                             if (c == '-' || c == '.') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace penstock
