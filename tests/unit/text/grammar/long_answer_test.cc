// What matchers keep of long answers, and how it is bounded for each and for all together.
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/sanitizers.h"
#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test_seed.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"

namespace penstock::grammar {
namespace {

std::shared_ptr<const Grammar> OfNotation(std::string_view text) {
  absl::StatusOr<Grammar> made = CompileGbnf(text);
  CHECK(made.ok());
  return std::make_shared<const Grammar>(*std::move(made));
}

std::shared_ptr<const Grammar> OfSchema(std::string_view text) {
  absl::StatusOr<Grammar> made = CompileJsonSchema(nlohmann::ordered_json::parse(text), {});
  CHECK(made.ok());
  return std::make_shared<const Grammar>(*std::move(made));
}

// Objects that an anyOf lets read in two ways for the most part, and those that can be read in one.
constexpr char kPlain[] = R"({"type":"array","items":{"type":"object","properties":{
    "id":{"type":"integer"},"name":{"type":"string"}},"required":["id","name"],
    "additionalProperties":false}})";
constexpr char kCounted[] = R"({"type":"array","maxItems":200000,"items":{"type":"object",
    "properties":{"id":{"type":"integer"},"name":{"type":"string","maxLength":60}},
    "required":["id","name"],"additionalProperties":false}})";
constexpr char kTwofold[] = R"({"type":"array","items":{"anyOf":[{"type":"object","properties":{
    "id":{"type":"integer"},"name":{"type":"string","maxLength":60}},"required":["id","name"]},
    {"type":"object","properties":{"id":{"type":"number"},"name":{"type":"string"},
    "more":{"type":"boolean"}},"required":["id","name"]}]}})";
constexpr char kNotation[] =
    "root ::= \"[\" item (\", \" item)* \"]\"\n"
    "item ::= \"{\\\"id\\\": \" [0-9]+ \", \\\"name\\\": \\\"\" (word | word word)* \"\\\"}\"\n"
    "word ::= [a-z ] | [a-z ] [a-z ]";

class LongAnswerTest : public testing::TestWithParam<const char*> {
 protected:
  static std::shared_ptr<const Grammar> Made() {
    const std::string_view text = GetParam();
    return text.starts_with('{') ? OfSchema(text) : OfNotation(text);
  }
};

TEST_P(LongAnswerTest, TakesNoMoreThanAShortOne) {
  constexpr int32_t kTokens = (kSanitized ? 12 : 128) << 10;
  const auto memory = std::make_shared<WayMemory>(0);  // no more than its own
  Matcher matcher(Made(), memory);
  ASSERT_TRUE(matcher.Accept("["));
  std::mt19937 random(TestSeed());
  size_t most_at_first = 0, most = 0;
  int32_t num_tokens = 1;
  std::string piece;
  for (int32_t item = 0; num_tokens < kTokens; ++item) {
    const std::string text = absl::StrCat(item > 0 ? ", " : "", "{\"id\": ", item,
                                          ", \"name\": \"the old house by the sea\"}");
    for (size_t at = 0; at < text.size(); at += 4) {
      piece = text.substr(at, 4);
      // Now and then guesses go before.
      const auto num_guesses = static_cast<int32_t>(random() % 8 == 0 ? 1 + random() % 2 : 0);
      for (int32_t i = 0; i < num_guesses; ++i) ASSERT_TRUE(matcher.Accept(i == 0 ? piece : ""));
      matcher.Rollback(num_guesses);
      ASSERT_TRUE(matcher.Accept(piece)) << item << " " << text;
      ASSERT_EQ(matcher.state().cut, Limit::kNone) << item;
      ++num_tokens;
      (num_tokens < 4000 ? most_at_first : most) =
          std::max(num_tokens < 4000 ? most_at_first : most, matcher.bytes());
    }
  }
  EXPECT_EQ(matcher.num_steps(), num_tokens);
  EXPECT_LE(most, most_at_first + most_at_first / 2);
  EXPECT_LE(most, static_cast<size_t>(WayMemory::kOwn));
  EXPECT_EQ(memory->used(), 0);
  EXPECT_FALSE(matcher.Accept("x"));
  ASSERT_TRUE(matcher.Accept("]"));
  EXPECT_TRUE(matcher.finished());
  matcher.Rollback(Matcher::kMostTakenBack);
  EXPECT_FALSE(matcher.finished());
}

INSTANTIATE_TEST_SUITE_P(Grammars, LongAnswerTest,
                         testing::Values(kPlain, kCounted, kTwofold, kNotation));

TEST(Matcher, CountsMoreThanThereIsRoomForAtOnce) {
  // Each character is a stack of its own, and no two of them are open at once.
  Matcher matcher(OfSchema(R"({"type":"string","maxLength":4000000})"));
  ASSERT_TRUE(matcher.Accept("\""));
  const std::string piece(1000, 'a');
  for (int i = 0; i < (kSanitized ? 60 : 2000); ++i) ASSERT_TRUE(matcher.Accept(piece));
  EXPECT_EQ(matcher.state().cut, Limit::kNone);
  ASSERT_TRUE(matcher.Accept("\""));
  EXPECT_TRUE(matcher.finished());
}

TEST(Matcher, ForgetsNoStackThatIsReturnedTo) {
  Matcher matcher(
      OfNotation("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\" | \"(\" root \")\""));
  std::mt19937 random(TestSeed());
  std::string ends;  // that close what is open, the last one first
  const auto open = [&] {
    const bool brace = random() % 3 == 0;
    ends.push_back(brace ? ')' : random() % 2 == 0 ? 'b' : 'c');
    return brace ? "(" : "a";
  };
  // Up and down, with steps taken back, until stacks have been collected some times.
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 120; ++i) ASSERT_TRUE(matcher.Accept(open()));
    const auto back = static_cast<int32_t>(random() % 100);
    matcher.Rollback(back);
    ends.resize(ends.size() - static_cast<size_t>(back));
  }
  EXPECT_GT(ends.size(), 10'000u);
  ASSERT_TRUE(matcher.Accept("a"));
  for (size_t i = ends.size(); i-- > 0;) {
    EXPECT_FALSE(matcher.finished());
    EXPECT_FALSE(matcher.Accept(ends[i] == ')' ? "b" : ")"));
    ASSERT_TRUE(matcher.Accept(std::string(1, ends[i]))) << i;
  }
  EXPECT_TRUE(matcher.ended());
}

TEST(Matcher, SaysWhichLimitIsPassed) {
  std::string wide = "root ::= one \"0\"",
              one = "\none ::= \"a\"";  // each of one behind each of root
  for (int i = 1; i < 260; ++i) {
    absl::StrAppend(&wide, " | one \"", i, "\"");
    absl::StrAppend(&one, " | \"a", i, "\"");
  }
  EXPECT_EQ(Matcher(OfNotation(wide + one)).state().cut, Limit::kWays);
}

TEST(Matcher, SaysThatItsStacksAreTooDeep) {
  if (kSanitized) GTEST_SKIP() << "a million of them take minutes under a sanitizer";
  Matcher deep(OfNotation("root ::= \"(\" root \")\" | \"x\""));
  const std::string many(20'000, '(');
  int num_steps = 0;
  while (deep.state().cut == Limit::kNone && num_steps < 100) {
    ASSERT_TRUE(deep.Accept(many));
    ++num_steps;
  }
  EXPECT_EQ(deep.state().cut, Limit::kStacks);
  EXPECT_EQ(num_steps, 53);  // 2^20 stacks
  EXPECT_THAT(PastLimit(Limit::kStacks).message(), testing::HasSubstr("1048576 rules"));
  EXPECT_FALSE(deep.ended());
  deep.Rollback(1);
  EXPECT_EQ(deep.state().cut, Limit::kNone);
}

/// Goes on until `matcher` says that a limit is passed, or for `most` steps.
Limit RunOn(Matcher& matcher, std::string_view piece, int most) {
  for (int i = 0; i < most && matcher.state().cut == Limit::kNone; ++i)
    EXPECT_TRUE(matcher.Accept(piece));
  return matcher.state().cut;
}

TEST(WayMemory, IsBoundedForAllMatchersTogether) {
  constexpr int64_t kMost = (kSanitized ? 2 : 8) << 20;
  const auto memory = std::make_shared<WayMemory>(kMost);
  const auto hostile =
      OfNotation("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"(\" root | \"x\"");
  const auto honest = OfNotation("root ::= (\"(\" [a-z]+ \")\")*");
  Matcher kept(honest, memory);
  std::vector<std::unique_ptr<Matcher>> matchers;
  size_t bytes = 0;
  int num_refused = 0;
  for (int i = 0; i < 20; ++i) {
    matchers.push_back(std::make_unique<Matcher>(hostile, memory));
    const Limit limit = RunOn(*matchers.back(), "aaaaaaaa((((((((", 3000);
    if (limit != Limit::kNone) {
      EXPECT_EQ(limit, Limit::kMemory);
      ++num_refused;
    }
    bytes = 0;
    for (const auto& matcher : matchers) bytes += matcher->bytes();
    ASSERT_LE(bytes, static_cast<size_t>(kMost) + matchers.size() * WayMemory::kOwn) << i;
    ASSERT_LE(memory->used(), kMost);
  }
  EXPECT_GT(bytes, static_cast<size_t>(kMost) / 2);
  EXPECT_GT(num_refused, 5);
  EXPECT_EQ(PastLimit(Limit::kMemory).code(), absl::StatusCode::kResourceExhausted);
  // Whoever stays within what is its own goes on, old or new.
  EXPECT_EQ(RunOn(kept, "(sea)", 2000), Limit::kNone);
  Matcher fresh(honest, memory);
  EXPECT_EQ(RunOn(fresh, "(sea)", 2000), Limit::kNone);
  // What requests had is there for others once they are over.
  matchers.clear();
  EXPECT_EQ(memory->used(), 0);
  Matcher later(hostile, memory);
  EXPECT_EQ(RunOn(later, "aaaaaaaa((((((((", 3000), Limit::kNone);
  EXPECT_GT(memory->used(), 0);
}

}  // namespace
}  // namespace penstock::grammar
