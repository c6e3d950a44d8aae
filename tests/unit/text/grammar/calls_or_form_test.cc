// Replies of calls of functions or of content of a form, where both were asked for.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "call_texts.h"
#include "text/grammar/reply_grammar.h"

namespace penstock {
namespace {

using namespace call_texts;  // NOLINT: the names of one test in several files

TEST(CallsOrForm, AreToldApartWhereNoInstanceBeginsAsACall) {
  const struct {
    const char *format, *schema;
    bool apart;
  } cases[] = {
      {"hermes", "true", true},
      {"pythonic", R"({"type":"object"})", true},
      {"pythonic", R"({"type":["object","array"]})", false},
      {"pythonic", "true", false},
      {"functionary", R"({"type":"string"})", true},
      {"llama3_json", R"({"type":"object","properties":{"a":{}},"additionalProperties":false})",
       true},
      {"llama3_json", R"({"type":"object","additionalProperties":false})", true},
      {"llama3_json", R"({"type":"object","properties":{"a":{}}})", false},
      {"llama3_json", R"({"type":"object","properties":{"name":{}},"additionalProperties":false})",
       false},
      {"llama3_json",
       R"({"type":"object","patternProperties":{"^n":{}},"additionalProperties":false})", false},
      {"llama3_json", "[", false},
  };
  for (const auto& c : cases)
    EXPECT_EQ(grammar::BeginsCallsBeside(*CallsNamed(c.format), c.schema), c.apart)
        << c.format << " " << c.schema;
}

TEST(CallsOrForm, AnInstanceHoldsNoCall) {
  const struct {
    const char *format, *instance, *call;
  } cases[] = {
      {"functionary_v31", R"({"a": "<function=second>{}</function>"})",
       "<function=second>{}</function>"},
      {"pythonic", R"({"a": "<|python_start|>[second()]<|python_end|>"})", "[second()]"},
      {"kimi_k2",
       R"({"a": "<|tool_call_begin|>functions.second:0<|tool_call_argument_begin|>{}<|tool_call_end|>"})",
       "<|tool_calls_section_begin|><|tool_call_begin|>functions.second:0<|tool_call_argument_"
       "begin|>{}"
       "<|tool_call_end|><|tool_calls_section_end|>"},
      {"functionary", R"({"a": ">>>second"})", "second\n{}"},
      {"llama3_json", R"({"a": "<|python_tag|>{}"})", R"({"name": "second", "parameters": {}})"},
  };
  for (const auto& c : cases) {
    const CallFormat* format = CallsNamed(c.format);
    const MarkerTokenizer tokenizer({});
    const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
    GrammarSpec content;
    content.form = GrammarSpec::Form::kJsonSchema;
    content.text =
        R"({"type":"object","required":["a"],"properties":{"a":{}},"additionalProperties":false})";
    ReplySpec spec;
    spec.content = std::make_shared<const GrammarSpec>(content);
    spec.calls = format;
    spec.functions = {Functions()[1]};
    spec.several = true;
    const auto made = compiler.Compile(spec, nullptr);
    ASSERT_TRUE(made.ok()) << made.status();
    std::vector<std::string> instances = {c.instance};
    if (format->body == CallBody::kNameLine) instances.push_back(std::string("all\n") + c.instance);
    for (const std::string& instance : instances) {
      EXPECT_TRUE(TakesText(**made, tokenizer, instance)) << instance;
      EXPECT_FALSE(TakesText(**made, tokenizer, instance + c.call)) << instance;
      for (const size_t step : {size_t{1}, size_t{7}, instance.size()}) {
        ReplyParser parser({format, nullptr, true}, false);
        std::vector<ReplyPiece> pieces;
        for (size_t at = 0; at < instance.size(); at += step) {
          parser.Append(std::string_view(instance).substr(at, step), pieces);
          const bool may_be_name = format->body == CallBody::kNameLine;
          if (at > instance.size() / 2 && !may_be_name)
            EXPECT_FALSE(pieces.empty()) << c.format << " does not stream";
        }
        parser.Finish(false, pieces);
        std::string text;
        for (const ReplyPiece& piece : pieces) {
          EXPECT_EQ(piece.kind, ReplyPiece::kContent) << instance;
          text += piece.text;
        }
        EXPECT_EQ(text, c.instance);
        EXPECT_EQ(parser.num_calls(), 0);
      }
    }
    EXPECT_TRUE(TakesText(**made, tokenizer, c.call)) << c.call;
    EXPECT_EQ(CallsReadIn(*format, c.call).size(), 1u) << c.call;
  }
}

}  // namespace
}  // namespace penstock
