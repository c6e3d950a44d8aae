// Calls that break off: where calls are handed out whole they are content, and where they stream they
// are counted.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "reply_cases.h"
#include "text/reply/reply_parser.h"

namespace penstock {
namespace {

using namespace reply_cases;  // NOLINT: the names of one test in several files

struct ReplyEnd {
  std::vector<ReplyPiece> pieces;
  std::vector<std::string> arguments;  // of each call
  int32_t num_calls, num_failed, num_broken;
  int64_t num_valid() const {
    return std::count_if(arguments.begin(), arguments.end(), [](const std::string& text) {
      return nlohmann::json::parse(text, nullptr, false).is_object();
    });
  }
};

ReplyEnd ParseTo(const Case& c, std::string_view text, bool whole, bool cut, bool bytes = true) {
  ReplyParser parser({Calls(c.calls), Reasoning(c.reasoning)}, c.in_reasoning, KindsOfCases(),
                     false, whole);
  ReplyEnd end;
  if (bytes) {
    for (const char byte : text) parser.Append(std::string(1, byte), end.pieces);
  } else {
    parser.Append(text, end.pieces);
  }
  parser.Finish(cut, end.pieces);
  for (const ReplyPiece& piece : end.pieces) {
    if (piece.kind == ReplyPiece::kCall) end.arguments.emplace_back();
    if (piece.kind == ReplyPiece::kArguments) end.arguments.at(piece.call) += piece.text;
  }
  end.num_calls = parser.num_calls();
  end.num_failed = parser.num_failed();
  end.num_broken = parser.num_broken();
  return end;
}

class WholeCalls : public ::testing::TestWithParam<size_t> {};

TEST_P(WholeCalls, AreWholeWhereverTheModelBreaksOff) {
  const Case& c = kCases[GetParam()];
  for (size_t size = 0; size <= c.text.size(); ++size) {
    for (const char* garbage : {"", "\x01", "<|", "]]"}) {
      const std::string text = c.text.substr(0, size) + garbage;
      const ReplyEnd whole = ParseTo(c, text, true, false);
      EXPECT_EQ(whole.num_valid(), whole.num_calls) << text;
      EXPECT_EQ(whole.num_broken, 0) << text;
      EXPECT_EQ(Describe(whole.pieces), Describe(ParseTo(c, text, true, false, false).pieces));
      const ReplyEnd streamed = ParseTo(c, text, false, false);
      EXPECT_EQ(streamed.num_valid(), streamed.num_calls - streamed.num_broken) << text;
      EXPECT_LE(streamed.num_broken, streamed.num_failed) << text;
      if (streamed.num_broken == 0) {
        EXPECT_EQ(Describe(whole.pieces), Describe(streamed.pieces)) << text;
      }
    }
  }
}

TEST_P(WholeCalls, AreHandedOutAsFarAsTheTokensWent) {
  const Case& c = kCases[GetParam()];
  for (size_t size = 0; size <= c.text.size(); ++size) {
    const std::string text = c.text.substr(0, size);
    const ReplyEnd whole = ParseTo(c, text, true, true);
    const ReplyEnd streamed = ParseTo(c, text, false, true);
    if (streamed.num_broken > 0) continue;  // before it was cut
    EXPECT_EQ(Describe(whole.pieces), Describe(streamed.pieces)) << text;
    EXPECT_EQ(whole.num_calls, streamed.num_calls);
    EXPECT_EQ(whole.num_broken, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, WholeCalls, ::testing::Range<size_t>(0, std::size(kCases)));

TEST(WholeCalls, ThatBreakOffAreContent) {
  const struct {
    const char *format, *text, *expected;
  } cases[] = {
      {"hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1, oops",
       "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1, oops"},
      {"mistral", "[TOOL_CALLS]f{\"a\": 1}[TOOL_CALLS]g{\"b\" 2}",
       "#0:f({\"a\": 1})[TOOL_CALLS]g{\"b\" 2}"},
      {"pythonic", "<|python_start|>[f(a=1, b=!)]", "<|python_start|>[f(a=1, b=!)]"},
      {"qwen3_coder", "<tool_call><function=f><parameter=a>1</parameter>oops",
       "<tool_call><function=f><parameter=a>1</parameter>oops"},
      {"harmony", "<|channel|>commentary to=functions.f<|message|>{\"a\": ]}",
       "<|channel|>commentary to=functions.f<|message|>{\"a\": ]}"},
  };
  for (const auto& [format, text, expected] : cases) {
    ReplyParser parser({Calls(format), nullptr}, false, nullptr, false, true);
    std::vector<ReplyPiece> pieces;
    parser.Append(text, pieces);
    parser.Finish(false, pieces);
    EXPECT_EQ(Describe(pieces), expected) << format;
    EXPECT_EQ(parser.num_failed(), 1) << format;
  }
}

}  // namespace
}  // namespace penstock
