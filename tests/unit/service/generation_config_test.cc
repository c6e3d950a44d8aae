#include "service/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace penstock {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

absl::StatusOr<GenerationDefaults> ReadText(const char* text) {
  return ReadGenerationDefaults(nlohmann::json::parse(text), "generation_config.json");
}

TEST(GenerationConfig, IsReadAsFilesOfTheHubAreWritten) {
  const auto read = ReadText(
      R"({"temperature": 0, "top_p": 0.95, "top_k": 50.0, "min_p": null, "repetition_penalty": 1.05,
          "max_new_tokens": 2048, "do_sample": true, "eos_token_id": [151645, -1, 2]})");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->temperature, 0.0);
  EXPECT_EQ(read->top_p, 0.95);
  EXPECT_EQ(read->top_k, 50);
  EXPECT_EQ(read->min_p, std::nullopt);
  EXPECT_EQ(read->repetition_penalty, 1.05);
  EXPECT_EQ(read->max_tokens, 2048);
  EXPECT_THAT(read->eos_token_ids, ElementsAre(151645, 2));
  EXPECT_THAT(ReadText(R"({"eos_token_id": 2})")->eos_token_ids, ElementsAre(2));
  EXPECT_TRUE(ReadText(R"({"eos_token_id": null})")->eos_token_ids.empty());
}

TEST(GenerationConfig, NamesWhatIsOutOfRange) {
  const std::vector<std::pair<const char*, const char*>> wrong = {
      {R"({"temperature": -0.1})", "temperature: expected a number from 0 to 2"},
      {R"({"temperature": 2.5})", "temperature: expected a number from 0 to 2"},
      {R"({"temperature": "0.7"})", "temperature: expected a number from 0 to 2"},
      {R"({"top_p": 0})", "top_p: expected a number above 0, at most 1"},
      {R"({"top_p": 1e-300})", "top_p: expected a number above 0, at most 1"},
      {R"({"min_p": 1.5})", "min_p: expected a number from 0 to 1"},
      {R"({"top_k": -2})", "top_k: expected a number of tokens, or -1"},
      {R"({"top_k": 1e300})", "top_k: expected a number of tokens, or -1"},
      {R"({"repetition_penalty": 0})",
       "repetition_penalty: expected a number above 0, at most 100"},
      {R"({"max_new_tokens": 0})", "max_new_tokens: expected a number of tokens"},
      {R"({"max_new_tokens": 4294967297})", "max_new_tokens: expected a number of tokens"},
      {R"({"eos_token_id": 4294967298})", "eos_token_id: expected an id"},
      {R"({"eos_token_id": 18446744073709551615})", "eos_token_id: expected an id"},
      {R"({"eos_token_id": [2, 2.5]})", "eos_token_id: expected an id"},
      {R"({"eos_token_id": "2"})", "eos_token_id: expected an id"},
  };
  for (const auto& [text, what] : wrong) {
    const auto read = ReadText(text);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(read.status().message()),
                StartsWith(std::string("generation_config.json: ") + what))
        << text;
  }
}

}  // namespace
}  // namespace penstock
