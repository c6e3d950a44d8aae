// Structural tags: which texts they allow, checked by hand and against a reader of their own; what
// cannot be kept is refused with its path.
#include "text/grammar/structural_tag.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "marker_tokenizer.h"
#include "test_seed.h"
#include "text/grammar/grammar_compiler.h"
#include "text/grammar/matcher.h"
#include "text/reply/reply_parser.h"

namespace penstock {
namespace {

using TagJson = nlohmann::ordered_json;

constexpr const char* kNumber = R"({"type":"integer","minimum":0,"maximum":99})";

std::string OlderTag() {
  return std::string(R"({"type":"structural_tag","structures":[)") +
         R"({"begin":"<f=one>","schema":)" + kNumber + R"(,"end":"</f>"},)" +
         R"({"begin":"<f=two>","schema":{"enum":["a"]},"end":"</f>"},)" +
         R"({"begin":"[x]","schema":{"const":1},"end":";"}],"triggers":["<f=","[x"]})";
}

/// A format whose tags are <a>NUMBER</a> and <b>text</b>.
std::string FormatWith(const std::string& members) {
  return std::string(R"({"format":{"tags":[{"begin":"<a>","content":{"type":"json_schema",)") +
         R"("json_schema":)" + kNumber + R"(},"end":"</a>"},{"type":"tag","begin":"<b>",)" +
         R"("content":{"type":"any_text"},"end":"</b>"}],)" + members + "}}";
}

bool Matches(const std::string& tag, const std::string& text) {
  GrammarSpec spec;
  spec.form = GrammarSpec::Form::kTag;
  spec.text = tag;
  auto made = CompileGrammar(spec, nullptr);
  EXPECT_TRUE(made.ok()) << made.status() << tag;
  grammar::Matcher matcher(std::make_shared<const grammar::Grammar>(*std::move(made)));
  return matcher.Accept(text) && matcher.finished();
}

TEST(StructuralTag, TextIsFreeUntilATrigger) {
  const std::string tag = OlderTag();
  for (const char* text : {"", "free < text [ x] \xE2\x82\xAC", "<f", "<<f=one>7</f>",
                           "a<f=two>\"a\"</f>b[x]1;c <f", "<f=one>0</f><f=one>99</f>", "</f>"})
    EXPECT_TRUE(Matches(tag, text)) << text;
  for (const char* text : {"<f=", "<f=three>1</f>", "<f=one>100</f>", "<f=one>7</g>",
                           "<f=two>7</f>", "[x", "[x]2;", "<f=one>7</f><f=one", "a[x]1"})
    EXPECT_FALSE(Matches(tag, text)) << text;
}

TEST(StructuralTag, FormatsSayHowOftenTagsStand) {
  const std::string free = FormatWith(R"("type":"triggered_tags","triggers":["<a>","<b>"])");
  EXPECT_TRUE(Matches(free, "x<a>1</a>y<b>z</b>"));
  EXPECT_TRUE(Matches(free, ""));
  EXPECT_FALSE(Matches(free, "<b>z"));
  const std::string some =
      FormatWith(R"("type":"triggered_tags","triggers":["<a>","<b>"],"at_least_one":true)");
  EXPECT_TRUE(Matches(some, "<a>1</a>y<b></b>"));
  EXPECT_FALSE(Matches(some, ""));
  EXPECT_FALSE(Matches(some, "x<a>1</a>"));  // the first stands at the beginning
  const std::string one =
      FormatWith(R"("type":"triggered_tags","triggers":["<a>","<b>"],"stop_after_first":true)");
  EXPECT_TRUE(Matches(one, "x<a>1</a>"));
  EXPECT_TRUE(Matches(one, "x"));
  EXPECT_FALSE(Matches(one, "x<a>1</a>y"));
  const std::string just = FormatWith(
      R"("type":"triggered_tags","triggers":["<"],"stop_after_first":true,"at_least_one":true)");
  EXPECT_TRUE(Matches(just, "<b>1</b>"));
  EXPECT_FALSE(Matches(just, "<b>1</b>x"));
  EXPECT_FALSE(Matches(just, ""));
  const std::string rows = FormatWith(R"("type":"tags_with_separator","separator":", ")");
  EXPECT_TRUE(Matches(rows, ""));
  EXPECT_TRUE(Matches(rows, "<a>1</a>, <b>2</b>, <a>3</a>"));
  EXPECT_FALSE(Matches(rows, "<a>1</a>,<b>2</b>"));
  EXPECT_FALSE(Matches(rows, "<a>1</a>, "));
  const std::string row = FormatWith(
      R"("type":"tags_with_separator","separator":"","at_least_one":true,"stop_after_first":true)");
  EXPECT_TRUE(Matches(row, "<a>1</a>"));
  EXPECT_FALSE(Matches(row, ""));
  EXPECT_FALSE(Matches(row, "<a>1</a><a>1</a>"));
}

TEST(StructuralTag, FormatsLieWithinEachOther) {
  const std::string thought =
      R"({"format":{"type":"sequence","elements":[{"type":"tag","begin":"<think>","content":)"
      R"({"type":"any_text","excludes":["<x>"]},"end":["</think>","</end>"]},)"
      R"({"type":"const_string","value":"\n"},{"type":"or","elements":[)"
      R"({"type":"regex","pattern":"[ab]+"},{"type":"grammar","grammar":"root ::= \"(\" root? \")\""},)"
      R"({"type":"triggered_tags","triggers":["<t"],"tags":[{"begin":"<t>","content":{"type":)"
      R"("triggered_tags","triggers":["<u>"],"tags":[{"begin":"<u>","content":{"type":"const_string",)"
      R"("value":"v"},"end":""}]},"end":"</t>"}]}]}]}})";
  for (const char* text : {"<think>a < b</think>\nab", "<think></end>\n(())",
                           "<think>x</think>\n<t>m<u>vn</t>o", "<think>x</think>\nfree"})
    EXPECT_TRUE(Matches(thought, text)) << text;
  for (const char* text : {"ab", "<think>a<x></think>\nab", "<think>a</think>ab",
                           "<think>a</think>\n<t>m", "<think>a</think>\n<t>m<u>w</t>"})
    EXPECT_FALSE(Matches(thought, text)) << text;
}

TEST(StructuralTag, FormatsThatNobodyKnowsAreRemarksOnTheirPlace) {
  const std::string schema = R"({"properties":{"a":{"type":"string","format":"semver"}}})";
  GrammarSpec spec;
  spec.form = GrammarSpec::Form::kTag;
  for (const char* style : {"json", "qwen_xml"}) {
    spec.text = R"({"format":{"type":"triggered_tags","triggers":["<a>"],"tags":[{"begin":"<a>",)"
                R"("content":{"type":"json_schema","style":")" +
                std::string(style) + R"(","json_schema":)" + schema + R"(},"end":"</a>"}]}})";
    std::vector<std::string> loosened;
    const auto made = CompileGrammar(spec, &loosened);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_THAT(loosened,
                testing::ElementsAre("format.tags[0].content.json_schema: #/properties/a/format: "
                                     "\"semver\" is not known and not kept"))
        << style;
    EXPECT_TRUE(CompileGrammar(spec, nullptr).ok());
  }
}

/// What a tag of OlderTag leaves wrong in a text; empty: nothing. Written apart from the grammar.
std::string WhatIsWrong(std::string_view text) {
  while (true) {
    const size_t f = text.find("<f="), x = text.find("[x");
    const size_t at = std::min(f, x);
    if (at == std::string_view::npos) return "";
    text.remove_prefix(at);
    const std::string_view begin = f < x ? text.substr(0, 7) : text.substr(0, 3);
    const std::string_view end = f < x ? "</f>" : ";";
    if (begin != "<f=one>" && begin != "<f=two>" && begin != "[x]")
      return "no tag begins so: " + std::string(begin);
    const size_t close = text.find(end);
    if (close == std::string_view::npos) return "a tag has no end";
    const auto value =
        TagJson::parse(text.substr(begin.size(), close - begin.size()), nullptr, false);
    const bool fits = begin == "[x]"       ? value == 1
                      : begin == "<f=two>" ? value == "a"
                                           : value.is_number_integer() && value >= 0 && value < 100;
    if (!fits) return "a content of another form: " + value.dump();
    text.remove_prefix(close + end.size());
  }
}

TEST(StructuralTag, RandomTextsReadAsTheyShould) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  // Parts of tags are special tokens, whose text counts.
  const MarkerTokenizer tokenizer({"<f=one>", "</f>", "[x", "<other>"});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  ReplySpec spec;
  auto content = std::make_shared<GrammarSpec>();
  content->form = GrammarSpec::Form::kTag;
  content->text = OlderTag();
  spec.content = content;
  const auto made = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const std::string_view likely = "<f=onetw>[x]1\"a;/";
  size_t num_tags = 0, num_refused = 0;
  for (int round = 0; round < 400; ++round) {
    const auto matcher = (*made)->Start();
    std::string text;
    for (int step = 0; step < 400 && (step < 40 || !matcher->finished()); ++step) {
      const TokenId id = random() % 8 == 0 ? static_cast<TokenId>(random() % tokenizer.vocab_size())
                         : random() % 3 == 0
                             ? 256 + static_cast<TokenId>(random() % 4)
                             : static_cast<unsigned char>(likely[random() % likely.size()]);
      const std::vector<TokenId> allowed = Allowed(*matcher, tokenizer.vocab_size());
      const bool in_mask = std::find(allowed.begin(), allowed.end(), id) != allowed.end();
      ASSERT_EQ(matcher->Accept(id), in_mask) << text << " then " << tokenizer.Piece(id);
      num_refused += in_mask ? 0 : 1;
      if (in_mask) text += tokenizer.Piece(id);
    }
    if (!matcher->finished()) continue;
    EXPECT_EQ(WhatIsWrong(text), "") << text;
    for (size_t at = text.find("</f>"); at != std::string::npos; at = text.find("</f>", at + 1))
      ++num_tags;
  }
  EXPECT_GT(num_tags, 50u);
  EXPECT_GT(num_refused, 50u);
}

/// Tags around arguments as Qwen3-Coder writes them.
std::string CoderTag(const std::string& content) {
  return R"({"format":{"type":"tag","begin":"<function=f>","content":)" + content +
         R"(,"end":"</function>"}})";
}

TEST(StructuralTag, ArgumentsOneByOne) {
  const std::string schema =
      R"({"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer",)"
      R"("minimum":1,"maximum":9},"unit":{"type":"string","enum":["C","F"]},)"
      R"("tags":{"type":"array","items":{"type":"boolean"}}},"required":["city","days"]})";
  const std::string names[] = {
      R"({"type":"qwen_xml_parameter","json_schema":)" + schema + "}",
      R"({"type":"json_schema","style":"qwen_xml","json_schema":)" + schema + "}"};
  const std::string city = "\n<parameter=city>\nNew York <b>\n</parameter>";
  const std::string days = "\n<parameter=days>\n3\n</parameter>";
  for (const std::string& name : names) {
    const std::string tag = CoderTag(name);
    for (const std::string& inside :
         {city + days + "\n", city + days + "\n<parameter=unit>\nF\n</parameter>\n",
          city + days + "<parameter=tags>[true, false]</parameter>",
          std::string("<parameter=city></parameter><parameter=days>9</parameter>"),
          "\n<parameter=city>\n</param\n\n</parameter>" + days + "\n"})
      EXPECT_TRUE(Matches(tag, "<function=f>" + inside + "</function>")) << inside;
    for (const std::string& inside :
         {std::string(), city, days + city, city + "\n<parameter=days>\n10\n</parameter>",
          city + "\n<parameter=days>\n\"3\"\n</parameter>",
          city + days + "\n<parameter=unit>\nK\n</parameter>",
          city + days + "\n<parameter=other>\nK\n</parameter>", city + days + "\n\n",
          city + days + days, city + "text" + days,
          city + days + "<parameter=tags>\n[1]\n</parameter>"})
      EXPECT_FALSE(Matches(tag, "<function=f>" + inside + "</function>")) << inside;
  }
  EXPECT_TRUE(Matches(CoderTag(R"({"type":"qwen_xml_parameter","json_schema":true})"),
                      "<function=f>\n</function>"));
  EXPECT_THAT(
      grammar::WritingsOf(TagJson::parse(CoderTag(names[0]))),
      testing::UnorderedElementsAre("<function=f>", "</function>", "<parameter=", "</parameter>"));
}

/// The chat template of Qwen3-Coder quotes no string, whatever its schema says besides.
TEST(StructuralTag, ArgumentsThatAreStringsOrNullAreText) {
  const auto allows = [](const std::string& schema, const std::string& value) {
    return Matches(CoderTag(R"({"type":"qwen_xml_parameter","json_schema":{"$defs":{"s":)"
                            R"({"type":"string"},"w":{"enum":["red",null]}},"properties":{"p":)" +
                            schema + R"(},"required":["p"]}})"),
                   "<function=f><parameter=p>" + value + "</parameter></function>");
  };
  for (const char* schema :
       {R"({"type":["string"]})", R"({"$ref":"#/$defs/s"})", R"({"type":["string","null"]})",
        R"({"anyOf":[{"type":"string"},{"type":"null"}]})",
        R"({"anyOf":[{"$ref":"#/$defs/s"},{"$ref":"#/$defs/w"}],"default":null})"}) {
    for (const char* value : {"red", "\nred\n", "null", "\"red\"", "12", "a\nb < c", ""})
      EXPECT_TRUE(allows(schema, value)) << schema << " " << value;
  }
  for (const char* schema :
       {R"({"enum":["red","12"]})", R"({"type":["string","null"],"enum":["red","12"]})",
        R"({"anyOf":[{"const":"red"},{"type":"string","enum":["12",null,3]}]})"}) {
    for (const char* value : {"red", "12", "\nred\n"})
      EXPECT_TRUE(allows(schema, value)) << schema << " " << value;
    for (const char* value : {"\"red\"", "null", "blue", "", "3", "red "})
      EXPECT_FALSE(allows(schema, value)) << schema << " " << value;
  }
  EXPECT_TRUE(allows(R"({"$ref":"#/$defs/w"})", "null"));
  EXPECT_FALSE(allows(R"({"$ref":"#/$defs/w"})", "nul"));
  // Beside numbers nobody could tell which it is: JSON.
  for (const char* schema : {R"({"type":["string","integer"]})", "{}", R"({"enum":["red",12]})"}) {
    EXPECT_TRUE(allows(schema, "\"red\"")) << schema;
    EXPECT_TRUE(allows(schema, "12")) << schema;
    EXPECT_FALSE(allows(schema, "red")) << schema;
  }
}

/// What such a tag allows, the parser of calls reads.
TEST(StructuralTag, TheParserOfCallsReadsSuchArguments) {
  const CallFormat* format = CallFormatOf("<tool_call><function=f><parameter=p>");
  ASSERT_NE(format, nullptr);
  const std::string inside =
      "\n<parameter=city>\nNew\nYork\n</parameter>\n<parameter=days>\n3\n</parameter>\n";
  const std::string tag = CoderTag(
      R"({"type":"qwen_xml_parameter","json_schema":{"properties":{"city":{"type":"string"},)"
      R"("days":{"type":"integer"}},"required":["city","days"]}})");
  ASSERT_TRUE(Matches(tag, "<function=f>" + inside + "</function>"));
  ReplyParser parser({format, nullptr}, false);
  std::vector<ReplyPiece> pieces;
  parser.Append("<tool_call>\n<function=f>" + inside + "</function>\n</tool_call>", pieces);
  parser.Finish(false, pieces);
  std::string name, arguments;
  for (const ReplyPiece& piece : pieces) {
    EXPECT_NE(piece.kind, ReplyPiece::kContent) << piece.text;
    (piece.kind == ReplyPiece::kCall ? name : arguments) += piece.text;
  }
  EXPECT_EQ(name, "f");
  EXPECT_EQ(TagJson::parse(arguments), TagJson({{"city", "New\nYork"}, {"days", 3}}));
}

/// One that lies within another is found with it, so that what the tag goes on with is unsure.
TEST(StructuralTag, MarkersWithinOneAnotherAreRefusedInWords) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"format":{"type":"triggered_tags","triggers":["<a","<a>"],"tags":[)"
       R"({"begin":"<a>","content":{"type":"any_text"},"end":"</a>"}]}})",
       "format.triggers: \"<a\" lies within \"<a>\": free text that goes up to either cannot tell"},
      {R"({"format":{"type":"tag","begin":"<t>","content":{"type":"triggered_tags","triggers":["t>"],)"
       R"("tags":[{"begin":"t>","content":{"type":"const_string","value":"x"},"end":"y"}]},)"
       R"("end":"</t>"}})",
       "format.content.triggers: \"t>\" lies within \"</t>\""},
      {R"({"format":{"type":"any_text","excludes":["abc","b"]}})",
       "format: \"b\" lies within \"abc\""},
  };
  for (const auto& [tag, message] : cases) {
    GrammarSpec spec;
    spec.form = GrammarSpec::Form::kTag;
    spec.text = tag;
    const auto made = CompileGrammar(spec, nullptr);
    ASSERT_FALSE(made.ok()) << tag;
    EXPECT_TRUE(absl::StartsWith(made.status().message(), message)) << made.status();
  }
}

TEST(StructuralTag, RefusesWithThePath) {
  const std::string deep = [] {
    std::string text = R"({"type":"any_text"})";
    for (int i = 0; i < 40; ++i) text = R"({"type":"sequence","elements":[)" + text + "]}";
    return R"({"format":)" + text + "}";
  }();
  const std::pair<std::string, std::string> cases[] = {
      {R"({})", "structures: "},
      {R"({"structures":[]})", "structures: "},
      {R"({"structures":[{}],"triggers":["a"]})", "structures[0].begin: "},
      {R"({"structures":[{"begin":"a","end":"b","schema":{}}]})", "triggers: "},
      {R"({"structures":[{"begin":"a","end":"b","schema":7}],"triggers":["a"]})",
       "structures[0].schema: "},
      {R"({"structures":[{"begin":"a","end":"b","schema":{}}],"triggers":["b"]})",
       "structures[0].begin: "},
      {R"({"structures":[{"begin":"a","end":"b","schema":{}}],"triggers":["a","c"]})",
       "triggers[1]: "},
      {R"({"structures":[{"begin":"ab","end":"b","schema":{}}],"triggers":["a","ab"]})",
       "triggers: "},
      {R"({"structures":[{"begin":"a","end":"b","schema":{}}],"triggers":[""]})", "triggers[0]: "},
      {R"({"structures":[{"begin":"a","end":"b","schema":{},"style":1}],"triggers":["a"]})",
       "structures[0].style: "},
      {R"({"structures":[{"begin":"a","end":"b","schema":{"uniqueItems":true}}],"triggers":["a"]})",
       "structures[0].schema: #/uniqueItems"},
      {R"({"format":7})", "format: "},
      {R"({"format":{"type":"qwen_xml_parameter"}})", "format.json_schema: "},
      {R"({"format":{"type":"qwen_xml_parameter","json_schema":{"anyOf":[{},{}]}}})",
       "format.json_schema: #/anyOf cannot be kept in arguments written one by one"},
      {R"({"format":{"type":"qwen_xml_parameter","json_schema":{"properties":{"a":{"type":"string","maxLength":3}}}}})",
       "format.json_schema: #/properties/a/maxLength"},
      {R"({"format":{"type":"qwen_xml_parameter","json_schema":{"properties":{"a b":{}}}}})",
       "format.json_schema: #/properties/a b"},
      {R"({"format":{"type":"json_schema","json_schema":{"type":"array"},"style":"qwen_xml"}})",
       "format.json_schema: #/type: arguments are an object"},
      {R"({"format":{"type":"json_schema","json_schema":{},"style":"loud"}})", "format.style: "},
      {R"({"format":{"type":"json_schema"}})", "format.json_schema: "},
      {R"({"format":{"type":"regex","pattern":"("}})", "format.pattern: "},
      {R"({"format":{"type":"const_string","value":"a","loud":true}})", "format.loud: "},
      {R"({"format":{"type":"sequence","elements":[{"type":"any_text"},{"type":"const_string","value":"a"}]}})",
       "format.elements[0]: "},
      {R"({"format":{"type":"tag","begin":"a","content":{"type":"any_text"},"end":""}})",
       "format.content: "},
      {R"({"format":{"type":"tag","begin":"a","content":{"type":"or","elements":[{"type":"none"}]},"end":"b"}})",
       "format.content.elements[0].type: "},
      {R"({"format":{"type":"triggered_tags","triggers":["a"],"tags":[)"
       R"({"begin":"b","content":{"type":"any_text"},"end":"c"}]}})",
       "format.tags[0].begin: "},
      {FormatWith(R"("type":"triggered_tags","triggers":["<"],"at_least_one":1)"),
       "format.at_least_one: "},
      {deep, "format.elements[0]"},
  };
  for (const auto& [tag, path] : cases) {
    GrammarSpec spec;
    spec.form = GrammarSpec::Form::kTag;
    spec.text = tag;
    const auto made = CompileGrammar(spec, nullptr);
    ASSERT_FALSE(made.ok()) << tag;
    EXPECT_TRUE(absl::StartsWith(made.status().message(), path)) << made.status() << "\n" << tag;
  }
}

}  // namespace
}  // namespace penstock
