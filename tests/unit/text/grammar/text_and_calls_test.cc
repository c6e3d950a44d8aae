// Replies of text, or of text and calls of functions behind it, as a strict function asks for under auto.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "base/sanitizers.h"
#include "call_texts.h"
#include "test_seed.h"
#include "text/grammar/reply_grammar.h"

namespace penstock {
namespace {

using namespace call_texts;  // NOLINT: the names of one test in two files

TEST(TextAndCalls, StandsBehindAnyTextOrInItsPlace) {
  for (const bool special : {false, true}) {
    const MarkerTokenizer tokenizer(special ? std::vector<std::string>{"<tool_call>", "<other>"}
                                            : std::vector<std::string>{});
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    ReplySpec spec;
    spec.calls = CallsNamed("hermes");
    spec.functions = {Functions()[1]};
    spec.behind_text = true;
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(made.ok()) << made.status();
    const auto matches = [&](std::string_view text) { return TakesText(**made, tokenizer, text); };
    const std::string call = "<tool_call>\n{\"name\": \"second\", \"arguments\": {}}\n</tool_call>";
    for (const char* text : {"", "Plain.", "a < b <tool_", "I write <tool-call> <other>.\n"}) {
      EXPECT_TRUE(matches(text)) << text;
      EXPECT_TRUE(matches(text + call)) << text;
      EXPECT_TRUE(matches(text + call + "\n" + call)) << text;
    }
    EXPECT_FALSE(matches("I ask. <tool_call>"));
    EXPECT_FALSE(
        matches("I ask. <tool_call>\n{\"name\": \"third\", \"arguments\": {}}\n</tool_call>"));
    EXPECT_FALSE(
        matches("<tool_call>\n{\"name\": \"second\", \"arguments\": {\"a\": 1}}\n</tool_call>"));
    EXPECT_FALSE(matches(call + "And text."));
  }
}

TEST(TextAndCalls, GeneratesTextAndCallsOfEveryFormatThatMarksThem) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  for (const CallFormat& format : CallFormats()) {
    if (!grammar::MarksCalls(format)) continue;
    std::vector<std::string> markers;
    for (const std::string_view marker : MarkersOf({&format, nullptr})) {
      if (marker != "functools") markers.emplace_back(marker);
    }
    const MarkerTokenizer tokenizer(markers);
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    ReplySpec spec;
    spec.calls = &format;
    spec.functions = Functions();
    const auto calls_alone = compiler.Compile(spec, nullptr);
    spec.behind_text = true;
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(calls_alone.ok() && made.ok()) << made.status();
    for (int round = 0; round < (kSanitized ? 5 : 20); ++round) {
      const std::string calls = Generate(**calls_alone, tokenizer, random);
      EXPECT_TRUE(TakesText(**made, tokenizer, calls)) << format.name << ": " << calls;
      EXPECT_TRUE(TakesText(**made, tokenizer, "I ask. " + calls)) << format.name << ": " << calls;
      // Nor with a function that is not there, nor cut off before its end.
      std::string other = calls;
      for (size_t at = 0; (at = other.find("first_one")) != std::string::npos;) other[at] = 'F';
      for (size_t at = 0; (at = other.find("second")) != std::string::npos;) other[at] = 'S';
      EXPECT_FALSE(TakesText(**made, tokenizer, other)) << format.name << ": " << other;
      const size_t name = std::min(calls.find("first_one"), calls.find("second"));
      EXPECT_FALSE(TakesText(**made, tokenizer, calls.substr(0, name + 3))) << format.name;
    }
  }
}

TEST(TextAndCalls, HidesNoCallInReasoning) {
  for (const bool special : {false, true}) {
    const std::vector<std::string> marks = {"[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]", "<x>"};
    const MarkerTokenizer tokenizer(special ? marks : std::vector<std::string>{});
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    ReplySpec spec;
    spec.calls = CallsNamed("mistral");
    spec.functions = {Functions()[1]};
    spec.behind_text = true;
    for (const ReasoningFormat& format : ReasoningFormats()) {
      if (format.name == "magistral") spec.reasoning = &format;
    }
    ASSERT_NE(spec.reasoning, nullptr);
    const std::string call = special ? "[TOOL_CALLS]second[ARGS]{}"
                                     : "[TOOL_CALLS][{\"name\": \"second\", \"arguments\": {}}]";
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(made.ok()) << made.status();
    for (const std::string text : {"Plain.", "[THINK]Hm <x> [TOOL_CALLS]{[/THINK]So: <x>"}) {
      EXPECT_TRUE(TakesText(**made, tokenizer, text)) << text;
      EXPECT_TRUE(TakesText(**made, tokenizer, text + call)) << text;
    }
    EXPECT_FALSE(TakesText(**made, tokenizer, "[THINK]I should call" + call));
    EXPECT_FALSE(TakesText(**made, tokenizer, "[THINK]Hm."));
    spec.in_reasoning = true;
    const auto begun = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(begun.ok()) << begun.status();
    EXPECT_TRUE(TakesText(**begun, tokenizer, "Hm <x>[/THINK]So" + call));
    EXPECT_TRUE(TakesText(**begun, tokenizer, "Hm <x>[/THINK]"));
    EXPECT_FALSE(TakesText(**begun, tokenizer, "Hm." + call));
  }
}

}  // namespace
}  // namespace penstock
