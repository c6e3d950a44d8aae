// Pairs of texts as one sequence, against what the library `tokenizers` makes of them.
#include <gmock/gmock.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

nlohmann::json PairCases() {
  std::ifstream in(std::string(PENSTOCK_SOURCE_DIR) + "/tests/unit/text/pair_cases.json");
  return nlohmann::json::parse(in);
}

TEST(TokenizerPairs, EveryPostProcessorJoinsPairsAsTheReference) {
  const nlohmann::json cases = PairCases();
  ASSERT_GE(cases.size(), 9u);
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto tokenizer = ParseTokenizer(cases[i]["tokenizer"].dump());
    ASSERT_TRUE(tokenizer.ok()) << i << " " << tokenizer.status();
    for (const auto& row : cases[i]["rows"]) {
      const auto first = (*tokenizer)->Encode(row[0].get<std::string>(), false);
      const auto second = (*tokenizer)->Encode(row[1].get<std::string>(), false);
      int32_t border = -1;
      const std::vector<TokenId> ids = (*tokenizer)->JoinPair(first, second, &border);
      EXPECT_EQ(ids, row[2].get<std::vector<TokenId>>()) << i << " " << row;
      std::vector<int> types(ids.size());
      for (size_t k = border; border > 0 && k < types.size(); ++k) types[k] = 1;
      // Nothing stands before an empty first text without special tokens: the border is then 0.
      if (border > 0 || !first.empty()) {
        EXPECT_EQ(types, row[3].get<std::vector<int>>()) << i << " " << row;
      }
    }
  }
}

TEST(TokenizerPairs, AddSpecialIsWhatEncodeDoes) {
  for (const auto& entry : PairCases()) {
    const auto tokenizer = ParseTokenizer(entry["tokenizer"].dump());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::vector<TokenId> ids = (*tokenizer)->Encode("the old sea", false);
    EXPECT_EQ(ids.size(), 3u);
    (*tokenizer)->AddSpecial(&ids);
    EXPECT_EQ(ids, (*tokenizer)->Encode("the old sea", true));
  }
}

/// The second case's tokenizer with this pair template.
absl::Status StatusOfTemplate(const std::string& pair) {
  nlohmann::json tokenizer = PairCases()[3]["tokenizer"];
  tokenizer["post_processor"]["pair"] = nlohmann::json::parse(pair);
  return ParseTokenizer(tokenizer.dump()).status();
}

TEST(TokenizerPairs, TemplatesThatCannotBeKeptAreNamed) {
  const std::string a = R"({"Sequence":{"id":"A","type_id":0}})";
  const std::string b = R"({"Sequence":{"id":"B","type_id":1}})";
  EXPECT_TRUE(StatusOfTemplate("[" + a + "," + b + "]").ok());
  for (const std::string& bad :
       {"[" + b + "," + a + "]", "[" + a + "," + a + "]", "[" + a + "]", std::string("[]"),
        std::string("7"), "[" + a + "," + b + "," + b + "]", "[" + a + ",{}]",
        "[" + a + "," + b + R"(,{"SpecialToken":{"id":"[SEP]","type_id":0}}])",
        "[" + a + "," + b + R"(,{"SpecialToken":{"id":"[NO]","type_id":1}}])",
        R"([{"Sequence":{"id":"A","type_id":1}},)" + b + "]",
        "[" + a + R"(,{"Sequence":{"id":"B","type_id":-1}}])"}) {
    const absl::Status status = StatusOfTemplate(bad);
    EXPECT_FALSE(status.ok()) << bad;
    EXPECT_THAT(
        std::string(status.message()),
        ::testing::AnyOf(HasSubstr("pair"), HasSubstr("special_tokens"), HasSubstr("type_id")))
        << bad;
  }
}

}  // namespace
}  // namespace penstock
