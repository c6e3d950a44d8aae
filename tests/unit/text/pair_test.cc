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
      const auto joined = (*tokenizer)->JoinPair(first, second, &border);
      ASSERT_TRUE(joined.ok()) << joined.status();
      const std::vector<TokenId>& ids = *joined;
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

/// Of loading a tokenizer with this pair template, and else of joining a pair with it.
struct PairStatus {
  absl::Status load, join;
};

PairStatus StatusOfTemplate(const std::string& pair) {
  nlohmann::json config = PairCases()[3]["tokenizer"];
  config["post_processor"]["pair"] = nlohmann::json::parse(pair);
  const auto tokenizer = ParseTokenizer(config.dump());
  if (!tokenizer.ok()) return {tokenizer.status(), absl::OkStatus()};
  EXPECT_EQ((*tokenizer)->Encode("sea", true).size(), 3u);
  int32_t border = 0;
  return {absl::OkStatus(), (*tokenizer)->JoinPair({}, {}, &border).status()};
}

const std::string kTextA = R"({"Sequence":{"id":"A","type_id":0}})";
const std::string kTextB = R"({"Sequence":{"id":"B","type_id":1}})";

TEST(TokenizerPairs, ATemplateThatCannotBeKeptIsNamedWhereItIsUsed) {
  EXPECT_TRUE(StatusOfTemplate("[" + kTextA + "," + kTextB + "]").join.ok());
  for (const std::string& odd :
       {"[" + kTextB + "," + kTextA + "]", "[" + kTextA + "," + kTextA + "]",
        "[" + kTextA + "," + kTextB + "," + kTextB + "]",
        "[" + kTextA + "," + kTextB + R"(,{"SpecialToken":{"id":"[SEP]","type_id":0}}])",
        R"([{"Sequence":{"id":"A","type_id":1}},)" + kTextB + "]"}) {
    const PairStatus status = StatusOfTemplate(odd);
    EXPECT_TRUE(status.load.ok()) << odd;
    EXPECT_EQ(status.join.code(), absl::StatusCode::kUnimplemented) << odd;
    EXPECT_THAT(std::string(status.join.message()), HasSubstr("pair")) << odd;
  }
}

TEST(TokenizerPairs, MalformedTemplatesAreRefused) {
  for (const std::string& bad :
       {"[" + kTextA + "]", std::string("[]"), std::string("7"), "[" + kTextA + ",{}]",
        "[" + kTextA + "," + kTextB + R"(,{"SpecialToken":{"id":"[NO]","type_id":1}}])",
        "[" + kTextA + R"(,{"Sequence":{"id":"B","type_id":-1}}])"}) {
    EXPECT_EQ(StatusOfTemplate(bad).load.code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace penstock
