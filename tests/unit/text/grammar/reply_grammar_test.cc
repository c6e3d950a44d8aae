// Grammars of whole replies: what they generate, the parser of replies takes apart again, into calls
// whose arguments fulfil their schemas.
#include "text/grammar/reply_grammar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/sanitizers.h"
#include "call_texts.h"
#include "marker_tokenizer.h"
#include "test_seed.h"
#include "text/grammar/grammar_compiler.h"
#include "text/reply/harmony_parser.h"
#include "text/reply/reply_parser.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using namespace call_texts;  // NOLINT: the names of one test in two files

std::shared_ptr<const ArgumentKinds> Types() {
  return std::make_shared<const ArgumentKinds>(ArgumentKinds{
      {"first_one", {{"s", ArgumentKind::kText}, {"e", ArgumentKind::kText}}}, {"second", {}}});
}

void CheckFirst(const Json& arguments) {
  std::set<std::string> names;
  for (const auto& [name, value] : arguments.items()) names.insert(name);
  EXPECT_TRUE(names.contains("s") && names.contains("e")) << arguments;
  EXPECT_TRUE(arguments["s"].is_string());
  EXPECT_TRUE(arguments["e"] == "red" || arguments["e"] == "dark blue") << arguments;
  if (names.erase("n") > 0) {
    EXPECT_TRUE(arguments["n"].is_number_integer() && arguments["n"] >= 0 && arguments["n"] <= 99);
  }
  if (names.erase("l") > 0) {
    EXPECT_LE(arguments["l"].size(), 2u);
    for (const Json& x : arguments["l"])
      EXPECT_TRUE(x == true || x == "</parameter>" || x == 7) << x;
  }
  EXPECT_EQ(names, (std::set<std::string>{"s", "e"}));
}

class CallGrammars : public ::testing::TestWithParam<size_t> {};

TEST_P(CallGrammars, GenerateWhatTheParserTakesApart) {
  const CallFormat& format = CallFormats()[GetParam()];
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  std::vector<std::string> markers;
  for (const std::string_view marker : MarkersOf({&format, nullptr})) {
    if (marker != "functools") markers.emplace_back(marker);
  }
  for (const bool special : {false, true}) {
    const MarkerTokenizer tokenizer(special ? markers : std::vector<std::string>{});
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    for (const bool several : {false, true}) {
      ReplySpec spec;
      spec.calls = &format;
      spec.functions = Functions();
      spec.several = several;
      const auto made = compiler.Compile(spec, nullptr);
      ASSERT_TRUE(made.ok()) << made.status();
      size_t most = 0;
      for (int round = 0; round < (kSanitized ? 10 : 60); ++round) {
        const std::string text = Generate(**made, tokenizer, random);
        ReplyParser parser({&format, nullptr}, false, Types());
        std::vector<ReplyPiece> pieces;
        parser.Append(text, pieces);
        parser.Finish(false, pieces);
        std::vector<std::pair<std::string, std::string>> calls;
        for (const ReplyPiece& piece : pieces) {
          ASSERT_TRUE(piece.kind == ReplyPiece::kCall || piece.kind == ReplyPiece::kArguments)
              << format.name << ": " << piece.text << "\nof " << text;
          if (piece.kind == ReplyPiece::kCall) {
            calls.emplace_back(piece.text, "");
          } else {
            calls.back().second += piece.text;
          }
        }
        ASSERT_FALSE(calls.empty()) << format.name << ": " << text;
        ASSERT_TRUE(several || calls.size() == 1) << text;
        most = std::max(most, calls.size());
        for (const auto& [name, arguments] : calls) {
          const Json parsed = Json::parse(arguments, nullptr, false);
          ASSERT_TRUE(parsed.is_object()) << format.name << ": " << arguments << "\nof " << text;
          if (name == "first_one") {
            CheckFirst(parsed);
          } else {
            EXPECT_EQ(name, "second");
            EXPECT_EQ(parsed, Json::object());
          }
        }
      }
      EXPECT_EQ(most > 1, several && format.name != "harmony") << format.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CallGrammars, ::testing::Range<size_t>(0, CallFormats().size()),
                         [](const auto& info) {
                           return std::string(CallFormats()[info.param].name);
                         });

TEST(CallGrammar, TakesAMarkerOnlyAsItsToken) {
  const MarkerTokenizer tokenizer({"[TOOL_CALLS]", "<other>"});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  ReplySpec spec;
  spec.calls = CallsNamed("mistral");
  spec.functions = {Functions()[1]};
  spec.several = false;
  const auto made = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string text = "[TOOL_CALLS][{\"name\": \"second\", \"arguments\": {}}]";
  EXPECT_TRUE(TakesText(**made, tokenizer, text));
  const std::unique_ptr<TokenMatcher> matcher = (*made)->Start();
  EXPECT_EQ(Allowed(*matcher, tokenizer.vocab_size()), std::vector<TokenId>{256});
  EXPECT_FALSE(matcher->Accept('['));
  EXPECT_FALSE(matcher->Accept(0xFF));
  EXPECT_FALSE(TakesText(**made, tokenizer, text + "<other>"));
}

TEST(CallGrammar, TakesCallsAsRealTokenizersWriteThem) {
  const std::pair<const char*, const char*> thought = {"<think>\nHm.\n</think>\n\n", "think"};
  const struct {
    const char *tokenizer, *format;
    std::pair<const char*, const char*> reasoning;
    const char* call;
  } cases[] = {
      {"qwen3", "hermes", thought,
       "<tool_call>\n{\"name\": \"second\", \"arguments\": {}}\n</tool_call>"},
      {"qwen2.5", "qwen3_coder", thought,
       "<tool_call>\n<function=second>\n</function>\n</tool_call>"},
      {"mistral-v0.3",
       "mistral",
       {"", ""},
       "[TOOL_CALLS] [{\"name\": \"second\", \"arguments\": {}}]"},
      {"llama3.1", "llama3_json", {"", ""}, "{\"name\": \"second\", \"parameters\": {}}"},
      {"llama3.1", "pythonic", {"", ""}, "[second()]"},
      {"phi-4", "phi4", {"", ""}, "functools[{\"name\": \"second\", \"arguments\": {}}]"},
      {"gpt-oss",
       "harmony",
       {"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant", "harmony"},
       "<|channel|>commentary to=functions.second <|constrain|>json<|message|>{}"},
  };
  for (const auto& c : cases) {
    const std::string path =
        std::string(PENSTOCK_SHARED_DATA "/tokenizers/") + c.tokenizer + "/tokenizer.json";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "the shared data is not there";
    auto tokenizer = LoadTokenizer(path);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const GrammarCompiler compiler(tokenizer->get(), (*tokenizer)->vocab_size());
    ReplySpec spec;
    spec.calls = CallsNamed(c.format);
    spec.functions = {Functions()[1]};
    for (const ReasoningFormat& format : ReasoningFormats()) {
      if (format.name == c.reasoning.second) spec.reasoning = &format;
    }
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(made.ok()) << made.status();
    const std::string text = std::string(c.reasoning.first) + c.call;
    const std::unique_ptr<TokenMatcher> matcher = (*made)->Start();
    for (const TokenId id : (*tokenizer)->Encode(text, false)) {
      const std::vector<TokenId> allowed = Allowed(*matcher, (*tokenizer)->vocab_size());
      EXPECT_TRUE(std::binary_search(allowed.begin(), allowed.end(), id))
          << c.tokenizer << ": '" << (*tokenizer)->Piece(id) << "' of " << text;
      ASSERT_TRUE(matcher->Accept(id)) << c.tokenizer << ": '" << (*tokenizer)->Piece(id) << "'";
    }
    EXPECT_TRUE(matcher->finished()) << c.tokenizer << ": " << text;
    if (spec.calls->name == "harmony") continue;
    spec.behind_text = true;
    const auto strict = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(strict.ok()) << strict.status();
    const std::string thought_of = c.reasoning.first;
    for (const std::string& reply :
         {thought_of + "Hello there.", thought_of + "I ask.\n" + c.call, std::string(c.call)})
      EXPECT_TRUE(TakesText(**strict, **tokenizer, reply)) << c.tokenizer << ": " << reply;
  }
}

TEST(CallGrammar, StandsBesideContent) {
  const MarkerTokenizer tokenizer({"<tool_call>", "</tool_call>"});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  GrammarSpec content;
  content.form = GrammarSpec::Form::kJsonSchema;
  content.text = R"({"type":"object","required":["a"],"properties":{"a":{"enum":[1]}}})";
  ReplySpec spec;
  spec.content = std::make_shared<const GrammarSpec>(content);
  spec.calls = CallsNamed("hermes");
  spec.functions = {Functions()[1]};
  const auto made = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string call = "<tool_call>\n{\"name\": \"second\", \"arguments\": {}}\n</tool_call>";
  EXPECT_TRUE(TakesText(**made, tokenizer, call));
  EXPECT_TRUE(TakesText(**made, tokenizer, call + "\n" + call));
  EXPECT_TRUE(TakesText(**made, tokenizer, "{\"a\": 1}"));
  EXPECT_FALSE(TakesText(**made, tokenizer, "{\"a\": 1}" + call));
  EXPECT_FALSE(TakesText(**made, tokenizer, call + "{\"a\": 1}"));
  EXPECT_FALSE(TakesText(**made, tokenizer, "{\"name\": \"second\", \"arguments\": {}}"));
}

TEST(CallGrammar, RefusesWhatXmlCannotKeepOrSaysWhatItLeavesOut) {
  const MarkerTokenizer tokenizer({});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  for (const char* keyword : {R"("minProperties":1)", R"("anyOf":[{"required":["a"]}])",
                              R"("properties":{"a":{"type":"string","pattern":"^x"}})",
                              R"("properties":{"a b":{}})", R"("required":["b"])"}) {
    ReplySpec spec;
    spec.calls = CallsNamed("qwen3_coder");
    spec.functions = {
        {"f", std::string("{") + keyword + "}", "tools[3].function.parameters", true}};
    const auto refused = compiler.Compile(spec, nullptr);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << keyword;
    EXPECT_EQ(refused.status().message().substr(0, 29), "tools[3].function.parameters:");
    spec.functions[0].strict = false;
    for (int again = 0; again < 2; ++again) {  // the second is kept from the first
      std::vector<std::string> loosened;
      EXPECT_TRUE(compiler.Compile(spec, &loosened).ok()) << keyword;
      EXPECT_EQ(loosened.size(), 1u) << keyword;
    }
  }
}

TEST(CallGrammar, FormatsThatNobodyKnowsAreRemarksOnTheirPlace) {
  const MarkerTokenizer tokenizer({});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  const std::string remark = ": \"semver\" is not known and not kept";
  for (const char* format : {"hermes", "qwen3_coder"}) {
    const bool xml = std::string(format) == "qwen3_coder";
    ReplySpec spec;
    spec.calls = CallsNamed(format);
    spec.functions = {{"f",
                       R"({"properties":{"a":{"type":"string","format":"semver"},)"
                       R"("b":{"type":"array","items":{"type":"string","format":"semver"}}}})",
                       "tools[3].function.parameters", true}};
    std::vector<std::string> loosened;
    const auto made = compiler.Compile(spec, &loosened);
    ASSERT_TRUE(made.ok()) << made.status();
    std::sort(loosened.begin(), loosened.end());
    const std::string at = "tools[3].function.parameters: ";
    std::vector<std::string> expected = {at + "#/properties/a/format" + remark,
                                         at + "#/properties/b/items/format" + remark};
    if (xml) expected[1] = at + "in #/properties/b: #/items/format" + remark;
    EXPECT_EQ(loosened, expected) << format;
  }
}

class Reasoning : public ::testing::TestWithParam<bool> {
 protected:
  Reasoning()
      : tokenizer_(GetParam() ? std::vector<std::string>{"<think>", "</think>", "<other>"}
                              : std::vector<std::string>{"<other>"}),
        compiler_(&tokenizer_, tokenizer_.vocab_size()) {
    GrammarSpec content;
    content.form = GrammarSpec::Form::kChoice;
    content.choices = {"yes", "no"};
    spec_.content = std::make_shared<const GrammarSpec>(content);
    spec_.reasoning = ReasoningFormatOf("</think>");
  }
  std::shared_ptr<const TokenGrammar> Made() {
    auto made = compiler_.Compile(spec_, nullptr);
    EXPECT_TRUE(made.ok()) << made.status();
    return *made;
  }
  bool Takes(std::string_view text) { return TakesText(*Made(), tokenizer_, text); }

  const MarkerTokenizer tokenizer_;
  const GrammarCompiler compiler_;
  ReplySpec spec_;
};

TEST_P(Reasoning, GoesBeforeContentOrNot) {
  EXPECT_TRUE(Takes("yes"));
  EXPECT_TRUE(Takes("<think>\nyes or no? </thin </</think>\n\nno"));
  EXPECT_TRUE(Takes("\n<think></think>yes"));
  EXPECT_FALSE(Takes("<think>yes"));
  EXPECT_FALSE(Takes("<think>a</think>b"));
  EXPECT_FALSE(Takes("maybe"));
  EXPECT_FALSE(Takes("<think>a<other></think>yes"));
  spec_.in_reasoning = true;
  EXPECT_TRUE(Takes("Hm.</think>yes"));
  EXPECT_FALSE(Takes("yes"));
}

TEST_P(Reasoning, EndsWhereItsTokensAre) {
  spec_.in_reasoning = true;
  spec_.reasoning_limit = 5;
  EXPECT_TRUE(Takes("abc</think>yes"));
  EXPECT_TRUE(Takes("abcde</think>yes"));
  EXPECT_FALSE(Takes("abcdef</think>yes"));
  spec_.in_reasoning = false;
  EXPECT_TRUE(Takes(" <think>abcde</think>yes"));
  EXPECT_FALSE(Takes(" <think>abcdef</think>yes"));
  EXPECT_TRUE(Takes("yes"));
  spec_.reasoning_limit = 0;
  EXPECT_TRUE(Takes("<think></think>yes"));
  EXPECT_FALSE(Takes("<think>a</think>yes"));
}

TEST_P(Reasoning, IsTakenBackWithItsLimit) {
  spec_.in_reasoning = true;
  spec_.reasoning_limit = 2;
  const std::unique_ptr<TokenMatcher> matcher = Made()->Start();
  EXPECT_TRUE(matcher->Accept('a'));
  EXPECT_TRUE(matcher->Accept('b'));
  EXPECT_FALSE(matcher->Accept('c'));
  matcher->Rollback(1);
  EXPECT_TRUE(matcher->Accept('c'));
  EXPECT_FALSE(matcher->Accept('d'));
}

TEST_P(Reasoning, MayBeAllThatIsLimited) {
  spec_.content = nullptr;
  spec_.in_reasoning = true;
  spec_.reasoning_limit = 3;
  EXPECT_TRUE(Takes("ab"));  // a reply may stop anywhere before
  EXPECT_TRUE(Takes("a</think>Anything <other>\n at all</think>"));
  EXPECT_TRUE(Takes("<other>bc</think>Anything"));
  EXPECT_FALSE(Takes("abcd"));
  EXPECT_FALSE(Takes("abc"));  // but not there
  spec_.in_reasoning = false;
  EXPECT_TRUE(Takes("No reasoning, of any length"));
  EXPECT_TRUE(Takes("<think>abc</think>and more"));
}

TEST(HarmonyGrammar, WritesChannels) {
  const std::vector<std::string> markers(kHarmonyMarkers.begin(), kHarmonyMarkers.end());
  const MarkerTokenizer tokenizer(markers);
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  GrammarSpec content;
  content.form = GrammarSpec::Form::kChoice;
  content.choices = {"yes", "no"};
  ReplySpec spec;
  spec.content = std::make_shared<const GrammarSpec>(content);
  spec.reasoning = ReasoningFormatOf("<|channel|>analysis<|message|>");
  ASSERT_EQ(spec.reasoning->name, "harmony");
  const auto made = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
  const std::string answer = "<|channel|>final<|message|>yes";
  EXPECT_TRUE(TakesText(**made, tokenizer, answer));
  EXPECT_TRUE(TakesText(**made, tokenizer, thought + answer));
  EXPECT_FALSE(TakesText(**made, tokenizer, thought + "yes"));
  EXPECT_FALSE(TakesText(**made, tokenizer, "yes"));
  spec.content = nullptr;
  spec.calls = CallsNamed("harmony");
  spec.functions = {Functions()[1]};
  const auto calls = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(calls.ok()) << calls.status();
  const std::string call =
      "<|channel|>commentary to=functions.second <|constrain|>json<|message|>{}";
  EXPECT_TRUE(TakesText(**calls, tokenizer, call));
  EXPECT_TRUE(TakesText(**calls, tokenizer, thought + call));
  EXPECT_FALSE(TakesText(**calls, tokenizer, thought + answer));
  spec.behind_text = true;
  const auto strict = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(strict.ok()) << strict.status();
  const std::string start = "<|end|><|start|>assistant";
  for (const std::string& text :
       {call, thought + call, answer, thought + answer,
        "<|channel|>commentary<|message|>I ask." + start + call,
        start + " to=functions.second<|channel|>commentary json<|message|>{}",
        start + " to=functions.second<|channel|>commentary <|constrain|>json<|message|>{}"})
    EXPECT_TRUE(TakesText(**strict, tokenizer, text)) << text;
  for (const std::string& text :
       {start + " to=functions.third<|channel|>commentary json<|message|>{}",
        std::string("to=functions.second<|channel|>commentary<|message|>{\"a\": 1}"),
        std::string("<|channel|>commentary\nto=functions.second<|message|>{\"a\": 1}"),
        std::string(
            "<|channel|>commentary to=functions.second <|constrain|>json<|message|>{\"a\": 1}")})
    EXPECT_FALSE(TakesText(**strict, tokenizer, text)) << text;
}

INSTANTIATE_TEST_SUITE_P(MarkersAs, Reasoning, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Tokens" : "Text"; });

}  // namespace
}  // namespace penstock
