// Replies of text, or of text and calls of functions behind it, as a strict function asks for under auto.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/sanitizers.h"
#include "call_texts.h"
#include "test_seed.h"
#include "text/detokenizer.h"
#include "text/grammar/reply_grammar.h"
#include "text/reply/reply_parser.h"

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
    for (const char* text : {"", "Plain.", "a < b <tool_", "I write <tool-call>.\n"}) {
      EXPECT_TRUE(matches(text)) << text;
      EXPECT_TRUE(matches(text + call)) << text;
      EXPECT_TRUE(matches(text + call + "\n" + call)) << text;
    }
    // What the detokenizer leaves out could hide a mark, or the begin of a call.
    EXPECT_EQ(matches("I write <other>."), !special);
    EXPECT_FALSE(matches("I ask. <tool_call>"));
    EXPECT_FALSE(
        matches("I ask. <tool_call>\n{\"name\": \"third\", \"arguments\": {}}\n</tool_call>"));
    EXPECT_FALSE(
        matches("<tool_call>\n{\"name\": \"second\", \"arguments\": {\"a\": 1}}\n</tool_call>"));
    EXPECT_FALSE(matches(call + "And text."));
  }
}

std::vector<std::string> SpecialMarkersOf(const CallFormat& format) {
  std::vector<std::string> markers;
  for (const std::string_view marker : MarkersOf({&format, nullptr})) {
    if (marker != "functools" && marker != "Action:" && marker != "```" && marker != ">>>")
      markers.emplace_back(marker);
  }
  return markers;
}

TEST(TextAndCalls, GeneratesTextAndCallsOfEveryFormat) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  for (const CallFormat& format : CallFormats()) {
    const MarkerTokenizer tokenizer(SpecialMarkersOf(format));
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    ReplySpec spec;
    spec.calls = &format;
    spec.functions = Functions();
    const auto calls_alone = compiler.Compile(spec, nullptr);
    spec.behind_text = true;
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(calls_alone.ok() && made.ok()) << made.status();
    const bool lines = format.body == CallBody::kNameLine;
    const bool is_prose = lines || format.body == CallBody::kPython;  // up to a bracket
    for (int round = 0; round < (kSanitized ? 5 : 20); ++round) {
      const std::string calls = Generate(**calls_alone, tokenizer, random);
      EXPECT_TRUE(TakesText(**made, tokenizer, calls)) << format.name << ": " << calls;
      EXPECT_TRUE(TakesText(**made, tokenizer, "I ask. " + calls)) << format.name << ": " << calls;
      if (lines) EXPECT_TRUE(TakesText(**made, tokenizer, "all\nI ask.>>>" + calls)) << calls;
      // Nor with a function that is not there, nor cut off before its end.
      std::string other = calls;
      for (size_t at = 0; (at = other.find("first_one")) != std::string::npos;) other[at] = 'F';
      for (size_t at = 0; (at = other.find("second")) != std::string::npos;) other[at] = 'S';
      EXPECT_FALSE(TakesText(**made, tokenizer, other)) << format.name << ": " << other;
      const size_t name = std::min(calls.find("first_one"), calls.find("second"));
      if (!is_prose)
        EXPECT_FALSE(TakesText(**made, tokenizer, calls.substr(0, name + 3))) << format.name;
    }
  }
}

struct BesideCase {
  const char* format;
  std::vector<const char*> texts, no_texts;  // that no call is read in, and that one is
};

TEST(TextAndCalls, LeavesTextAloneThatNoCallIsReadIn) {
  const std::vector<BesideCase> cases = {
      {"llama3_json",
       {"", "{", "{x} is a set", "{\n  \"city\": \"Rome\", \"of\": {\"name\": \"x\"}\n}\nis it.",
        "{}", "{ }.", " {\"names\": [\"a\"]}", "Use {\"name\": \"f\"}", "[{\"name\": \"f\"}]",
        "<|python_tag", "{\"name\": \"John Smith\", \"age\": 3}", "{\"age\": 3, \"name\": null}",
        "{\"a\": \"<|python_tag|>{\"}", "{\"a\": \"<|python_tag|>{\", \"b\": 1} and so on"},
       {"{\"name\": \"third\", \"parameters\": {}}", "  {\"name\": \"third\"}",
        "{\"a\": 1, \"name\": \"third\"}", "{\"tool_name\": \"third\"}",
        "See.<|python_tag|>{\"name\": \"third\"}"}},
      {"pythonic",
       {"", "[1] is a source", "[a link](there)", "[x] done", "[]", "f(x)", "I [f(x=1)]",
        "[\"f(\"]", "[third", "[(0, 1), (2, 3)]", "[a+b(c)]"},
       {"[third()]", " [ third(x=1)", "[third(", "See.<|python_start|>[third()]<|python_end|>"}},
      {"functionary",
       {"", "second", "all\nIt is {so}.", "Hello there\nsecond\n{}", "all\nsecond\n{}", "A: b\n",
        "\n{}", "Yes\n\nBecause {it} is", "\nYes\n", "all\n>>> print(1)\n1", "all\nA.>>>all\nB.",
        ">>>third", "all\n{}"},
       {"third\n{}", "  third \n {}", "all\nI ask.>>>third\n{}", "al\n{}", "alle\n{}", "bll\n{}",
        "aal\n{}"}},
      {"phi4",
       {"", "Python has functools, too", "functools.cache(f)", "functoolsfunctools", "tools[0]",
        "functools[0]"},
       {"functools[{\"name\": \"third\"}]",
        "I ask functools\n[{\"name\": \"third\", \"arguments\": {}}]"}},
      {"command_r_plus",
       {"", "Action: none", "```json\n[]\n```", "Action:\n```python\n[]```", "An Action:Action: is",
        "Action: ```json\n[1]\n```"},
       {"Action: ```json\n[{\"tool_name\": \"third\", \"parameters\": {}}]\n```",
        "So Action:\n```json\n[{\"tool_name\": \"third\"}]```"}},
  };
  for (const BesideCase& c : cases) {
    const MarkerTokenizer tokenizer({});
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    ReplySpec spec;
    spec.calls = CallsNamed(c.format);
    spec.functions = {Functions()[1]};
    spec.behind_text = true;
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(made.ok()) << made.status();
    for (const char* text : c.texts) {
      EXPECT_TRUE(TakesText(**made, tokenizer, text)) << c.format << ": " << text;
      EXPECT_TRUE(CallsReadIn(*spec.calls, text).empty()) << c.format << ": " << text;
    }
    for (const char* text : c.no_texts)
      EXPECT_FALSE(TakesText(**made, tokenizer, text)) << c.format << ": " << text;
  }
}

TEST(TextAndCalls, TakesSeveralCallsBehindTheMarkOfLlama) {
  const MarkerTokenizer tokenizer({"<|python_tag|>"});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  ReplySpec spec;
  spec.calls = CallsNamed("llama3_json");
  spec.functions = {Functions()[1]};
  spec.behind_text = spec.several = true;
  const auto made = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string call = R"({"name": "second", "parameters": {}})";
  for (const std::string& text :
       {call, "\n\n" + call, "<|python_tag|>" + call, "<|python_tag|>" + call + "; " + call,
        "I ask.<|python_tag|>" + call + "<|python_tag|>" + call}) {
    EXPECT_TRUE(TakesText(**made, tokenizer, text)) << text;
    EXPECT_GE(CallsReadIn(*spec.calls, text).size(), text.size() > 60 ? 2u : 1u) << text;
  }
}

TEST(TextAndCalls, LetsTheModelOfCommandRPlusAnswerDirectly) {
  const MarkerTokenizer tokenizer({});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  ReplySpec spec;
  spec.calls = CallsNamed("command_r_plus");
  spec.functions = {Functions()[1]};
  spec.behind_text = true;
  const auto made = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string call =
      "Action:\n```json\n[\n    {\n        \"tool_name\": \"directly_answer\",\n        "
      "\"parameters\": {}\n    }\n]```";
  EXPECT_TRUE(TakesText(**made, tokenizer, call));
  spec.behind_text = false;
  EXPECT_FALSE(TakesText(**compiler.Compile(spec, nullptr), tokenizer, call));
}

/// What of reasoning there is.
enum class Thought : uint8_t { kNone, kPast, kMayBegin, kBegun };

/// As a stream reads it: tokens become text, of which special ones that are no marks are left out.
std::vector<ReadCall> CallsReadAsTokens(const ReplyFormat& format, bool in_reasoning,
                                        const MarkerTokenizer& tokenizer, std::string_view text,
                                        bool whole, size_t step) {
  std::vector<TokenId> kept;
  for (const std::string_view marker : MarkersOf(format)) {
    if (const auto id = tokenizer.TokenToId(marker)) kept.push_back(*id);
  }
  Detokenizer detokenizer(&tokenizer, /*skip_special=*/true, kept);
  ReplyParser parser(format, in_reasoning, nullptr, false, whole);
  std::vector<ReplyPiece> pieces;
  std::string waiting;
  size_t num = 0;
  for (const TokenId id : tokenizer.Encode(text, false)) {
    waiting += detokenizer.Append(id);
    if (++num % step == 0) parser.Append(std::exchange(waiting, ""), pieces);
  }
  parser.Append(waiting + detokenizer.Finish(), pieces);
  parser.Finish(false, pieces);
  return CallsOf(pieces);
}

// Texts of parts of calls in any order: whatever the grammar lets pass, what the reader takes for calls in it are those
// of the functions, and fulfil their schemas.
TEST(TextAndCalls, LetNothingPassThatIsReadAsAnotherCall) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  const std::vector<std::string> parts = {"{\"name\": \"",
                                          "second",
                                          "third",
                                          "\", \"parameters\": ",
                                          "\", \"arguments\": ",
                                          "{}",
                                          "{\"a\": 1}",
                                          "}",
                                          "{",
                                          "[",
                                          "]",
                                          "(",
                                          ")",
                                          "\n",
                                          " ",
                                          "; ",
                                          ", ",
                                          "all",
                                          ">>>",
                                          "I ask. ",
                                          "\"name\": \"third\"",
                                          "=1",
                                          "\n```json\n",
                                          "```",
                                          "{\"a\": 2, ",
                                          "\"tool_name\": \"third\"",
                                          "<function=",
                                          "<think>",
                                          "</think>",
                                          "[ARGS]",
                                          "<|constrain|>json<|message|>",
                                          "to=functions.",
                                          "functions.",
                                          "<|pad|>",
                                          "{\"a\": \"",
                                          "\"",
                                          ": 1, ",
                                          "third()",
                                          "third\n{}",
                                          "{\"name\": \"third\", \"arguments\": {}}"};
  const ReasoningFormat* think = nullptr;
  for (const ReasoningFormat& format : ReasoningFormats()) {
    if (format.name == "think") think = &format;
  }
  int num_taken = 0, num_with_calls = 0;
  for (const CallFormat& format : CallFormats()) {
    for (const Thought thought :
         {Thought::kNone, Thought::kPast, Thought::kMayBegin, Thought::kBegun}) {
      if (thought != Thought::kNone && format.body == CallBody::kHarmony) continue;
      const bool begun = thought == Thought::kBegun;
      const ReplyFormat reply = {&format, thought == Thought::kNone ? nullptr : think};
      std::vector<std::string> specials = SpecialMarkersOf(format);
      specials.emplace_back("<|pad|>");
      const MarkerTokenizer tokenizer(specials);
      const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
      ReplySpec spec;
      spec.calls = &format;
      spec.functions = {Functions()[1]};
      const auto calls_alone = compiler.Compile(spec, nullptr);
      spec.behind_text = true;
      (thought == Thought::kPast ? spec.past : spec.reasoning) = reply.reasoning;
      spec.in_reasoning = begun;
      const auto made = compiler.Compile(spec, nullptr);
      ASSERT_TRUE(calls_alone.ok() && made.ok()) << made.status();
      std::vector<std::string> all = parts;
      for (int i = 0; i < 4; ++i) {
        for (const std::string_view marker : MarkersOf({&format, nullptr}))
          all.emplace_back(marker);
        all.push_back(Generate(**calls_alone, tokenizer, random));
      }
      for (int round = 0; round < (kSanitized ? 60 : 2500); ++round) {
        std::string text;
        for (size_t n = 1 + random() % 7; n > 0; --n) text += all[random() % all.size()];
        if (!TakesText(**made, tokenizer, text)) continue;
        ++num_taken;
        bool any = false;
        for (const bool whole : {false, true}) {
          for (const size_t step : {1, 7, 1000}) {
            for (const ReadCall& call :
                 CallsReadAsTokens(reply, begun, tokenizer, text, whole, step)) {
              any = true;
              const bool direct = call.name.starts_with("directly");
              EXPECT_TRUE(call.name == "second" || direct) << format.name << ": " << text;
              EXPECT_EQ(nlohmann::json::parse(call.arguments, nullptr, false),
                        nlohmann::json::object())
                  << format.name << ": " << text;
            }
          }
        }
        num_with_calls += any ? 1 : 0;
      }
    }
  }
  EXPECT_GT(num_taken, kSanitized ? 250 : 5000);
  EXPECT_GT(num_with_calls, kSanitized ? 25 : 500);
}

// What two readers found that the random texts above hardly hold.
TEST(TextAndCalls, HidesNoCallBehindWhatTheReaderLeavesOutOrGivesUp) {
  const ReasoningFormat* think = nullptr;
  for (const ReasoningFormat& format : ReasoningFormats()) {
    if (format.name == "think") think = &format;
  }
  const struct {
    const char* format;
    Thought thought;
    std::string text;
    bool taken;
  } cases[] = {
      {"llama3_json", Thought::kNone,
       R"({"name": "J. S.", "x": "<|python_tag|>{"}": 1, "name": "third", "parameters": {"a": 1}})",
       true},
      {"llama3_json", Thought::kNone,
       R"({"arguments": 1, "x": "<|python_tag|>{"}": 1, "name": "third", "parameters": {"a": 1}})",
       true},
      {"llama3_json", Thought::kNone,
       R"({"a": )" + std::string(200, '[') + R"("<|python_tag|>{")" + std::string(200, ']') +
           R"(}": 1, "name": "third", "parameters": {"a": 1}})",
       true},
      {"llama3_json", Thought::kNone, R"(<|pad|>{"name": "third", "parameters": {}})", false},
      {"llama3_json", Thought::kPast, R"(<think></think>{"name": "third"})", false},
      {"functionary", Thought::kBegun, "Hm.</think>\n\nthird\n{}", false},
      {"functionary", Thought::kBegun, "Hm.</think>\nsecond\n{\"a\": 1}", false},
      {"functionary", Thought::kBegun, "Hm.</think>\nsecond\n{}", true},
      {"functionary", Thought::kMayBegin, "<think>\n>>>third\n{}</think>all\nx", true},
      {"hermes", Thought::kMayBegin,
       "<think>a</th<|pad|>ink><tool_call>{\"name\": \"third\", \"arguments\": "
       "{}}</tool_call></think>",
       false},
  };
  for (const auto& c : cases) {
    const CallFormat* format = CallsNamed(c.format);
    std::vector<std::string> specials = SpecialMarkersOf(*format);
    specials.emplace_back("<|pad|>");
    // As text the mark of Llama may stand within strings.
    if (c.text.find("<|python_tag|>") != std::string::npos) specials = {"<|pad|>"};
    const MarkerTokenizer tokenizer(specials);
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    ReplySpec spec;
    spec.calls = format;
    spec.functions = {Functions()[1]};
    spec.behind_text = true;
    const bool none = c.thought == Thought::kNone, begun = c.thought == Thought::kBegun;
    (c.thought == Thought::kPast ? spec.past : spec.reasoning) = none ? nullptr : think;
    spec.in_reasoning = begun;
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(TakesText(**made, tokenizer, c.text), c.taken) << c.format << ": " << c.text;
    if (!c.taken) continue;
    for (const bool whole : {false, true}) {
      for (const size_t step : {1, 7, 1000}) {
        for (const ReadCall& call : CallsReadAsTokens({format, none ? nullptr : think}, begun,
                                                      tokenizer, c.text, whole, step))
          EXPECT_EQ(call.name + call.arguments, "second{}") << c.text;
      }
    }
  }
}

TEST(TextAndCalls, HidesNoCallInReasoning) {
  for (const bool special : {false, true}) {
    const std::vector<std::string> marks = {"[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]"};
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
    EXPECT_EQ(TakesText(**made, tokenizer, "[THINK]Hm [TOOL_CALLS]{[/THINK]So"), !special);
    for (const std::string text : {"Plain.", "[THINK]Hm <x> {[/THINK]So: <x>"}) {
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
