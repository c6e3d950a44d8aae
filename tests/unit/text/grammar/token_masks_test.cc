// Masks against the matcher asked token by token, on the demo model's vocabulary.
#include <array>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "base/sanitizers.h"
#include "gtest/gtest.h"
#include "test_seed.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/grammar_compiler.h"
#include "text/grammar/mask_writer.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

class TokenMasksTest : public testing::Test {
 protected:
  void SetUp() override {
    auto loaded = LoadTokenizer(std::string(PENSTOCK_SOURCE_DIR) + "/models/demo/tokenizer.json");
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokenizer_ = *std::move(loaded);
    compiler_ = std::make_unique<GrammarCompiler>(tokenizer_.get(), tokenizer_->vocab_size());
  }

  std::unique_ptr<TokenMatcher> Start(GrammarSpec::Form form, std::string text) {
    GrammarSpec spec;
    spec.form = form;
    spec.text = std::move(text);
    ReplySpec reply;
    reply.content = std::make_shared<const GrammarSpec>(spec);
    auto made = compiler_->Compile(reply, nullptr);
    EXPECT_TRUE(made.ok()) << made.status() << spec.text;
    return (*made)->Start();
  }

  /// Goes through `text` and holds every mask against what the matcher accepts.
  void Check(TokenMatcher& matcher, const std::string& text) {
    std::vector<uint32_t> words((static_cast<size_t>(tokenizer_->vocab_size()) + 31) / 32);
    std::vector<TokenId> ids = tokenizer_->Encode(text, false);
    for (size_t i = 0; i <= ids.size(); ++i) {
      matcher.FillMask(absl::MakeSpan(words));
      // Under a sanitizer not all of them, but others at every step.
      const int32_t stride = kSanitized ? 31 : 1;
      for (auto id = static_cast<TokenId>(i % stride); id < tokenizer_->vocab_size();
           id += stride) {
        const bool accepts = matcher.Accept(id);
        if (accepts) matcher.Rollback(1);
        ASSERT_EQ((words[id / 32] >> (id % 32) & 1) != 0, accepts)
            << "token " << id << " '" << tokenizer_->Piece(id) << "' after token " << i << " of "
            << text;
      }
      if (i == ids.size()) break;
      ASSERT_TRUE(matcher.Accept(ids[i])) << text << " at token " << i;
    }
    EXPECT_TRUE(matcher.finished()) << text;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<GrammarCompiler> compiler_;
};

TEST_F(TokenMasksTest, AreWhatTheMatcherAccepts) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", R"({"a": [1, 2.5e3, "x\n\u00e9"], "b": {"c": null}})"},
      {R"({"type":"object","properties":{"the":{"type":"string"},"other":{"type":"integer"}}})",
       R"({"the": "a long story of the sea", "other": -12, "others": true, "th": [], "thes": 1})"},
      {R"({"type":"string","maxLength":12})", R"("the old sea")"},
      {R"({"type":"string","minLength":3,"maxLength":400})", R"("the \"old\" house by the sea")"},
      {R"({"type":"array","items":{"type":"string","minLength":2,"maxLength":5},"maxItems":9})",
       R"(["the", "a b", "end."])"},
      {R"({"type":"string","pattern":"^[a-z ]{3,20}$"})", R"("the old house")"},
      {R"({"type":"string","pattern":"sea"})", R"("by the sea, \u4e2d")"},
      {R"({"enum":["the sea","the seaside",12,120,null]})", R"("the seaside")"},
      {R"({"enum":["the sea","the seaside",12,120,null]})", R"(120)"},
      {R"({"type":"number","minimum":-1.5,"maximum":1000})", R"(123.25)"},
      {R"({"type":"string","format":"date-time"})", R"("2024-02-29T10:00:00Z")"},
      {R"({"anyOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"string"}}},)"
       R"({"type":"object","properties":{"k":{"const":"b"},"y":{"type":"integer"}}}]})",
       R"({"k":"b","y":17})"},
  };
  for (const auto& [schema, text] : cases) {
    SCOPED_TRACE(schema);
    // What comes the third time was kept at the second.
    for (int time = 0; time < 3; ++time)
      Check(*Start(GrammarSpec::Form::kJsonSchema, schema), text);
  }
  Check(*Start(GrammarSpec::Form::kJsonObject, ""), "{\n  \"the\": [true, false],\n  \"é\": 1\n}");
  Check(*Start(GrammarSpec::Form::kRegex, "(the|a) [a-z]+( and [a-z]+){0,2}\\."),
        "the sea and wind.");
  Check(*Start(GrammarSpec::Form::kGbnf,
               "root ::= item (\", \" item)* # a list\nitem ::= [a-z]+ | \"(\" root \")\"\n"),
        "the, (old, house), sea");
}

TEST_F(TokenMasksTest, OfAmbiguousGrammarsAreWhatTheMatcherAccepts) {
  const std::pair<const char*, const char*> cases[] = {
      {R"(root ::= "a" root "b" | "a" root "c" | "a")", "aaaaaaaabcbbccb"},
      {R"(root ::= [a-z ] root "b" | [a-z ] root "c" | [a-z ] root "d" | "a")", "the seabbcddc"},
      {"root ::= term ((\"+\" | \"-\") term+)*\nterm ::= [0-9]{1,3} | \"(\" root",
       "(12+(3-(456+1-(78"},
      {"root ::= [a-z ] root digit | [a-z ]\ndigit ::= [0-9]?", "the old house12"},
      {"root ::= [a-z ] | [a-z ] root root", "the old sea"},
      {"root ::= [a-f] [0-9]? root | [a-z] \"!\"? root | [b-y] root? | \"the\"", "thea1z!the"},
      {"root ::= ([a-z ] | [a-z ] [a-z ] | [a-z ] [a-z ] [a-z ]){5,20} \".\"", "by the sea."},
      {"root ::= (\"the\" | \"th\" | \"e\" | \"he\" | [a-z ]+ \",\")+ | root2\n"
       "root2 ::= \"t\" root2? \"e\"? | \"h\"",
       "thehethe"},
  };
  for (const auto& [gbnf, text] : cases) {
    SCOPED_TRACE(gbnf);
    for (int time = 0; time < (kSanitized ? 1 : 3); ++time)
      Check(*Start(GrammarSpec::Form::kGbnf, gbnf), text);
  }
}

TEST(MaskWriter, WalksSmallTreesToTheirLastLeaf) {
  std::vector<std::string> pieces = {"a", "b"};
  for (int i = 0; i < 1000; ++i) {
    const std::string digits = absl::StrCat(i);
    for (size_t n = digits.size(); n <= 3; ++n)
      pieces.push_back(std::string(n - digits.size(), '0') + digits);
  }
  const auto masks = std::make_shared<grammar::TokenMasks>(pieces);
  for (const char* gbnf : {"root ::= [0-9] ([0-9] [0-9] \"a\" | [0-9] [0-8] \"b\")",
                           "root ::= [0-9]{2,4} \"a\" | [0-9] [5-9] [0-9]? \"b\"",
                           "root ::= [0-9] root \"a\" | [0-9] root \"b\" | [1-9]"}) {
    auto made = grammar::CompileGbnf(gbnf);
    ASSERT_TRUE(made.ok()) << made.status();
    grammar::Matcher matcher(std::make_shared<const grammar::Grammar>(*std::move(made)));
    grammar::MaskWriter writer(masks);
    std::vector<uint32_t> words(masks->num_words());
    for (const char* step : {"", "1", "9", "9"}) {
      ASSERT_TRUE(matcher.Accept(step));
      ASSERT_EQ(writer.Write(matcher, absl::MakeSpan(words)), grammar::Limit::kNone);
      for (size_t id = 0; id < pieces.size(); ++id) {
        const bool allowed = matcher.Accept(pieces[id]);
        if (allowed) matcher.Rollback(1);
        EXPECT_EQ(words[id / 32] >> (id % 32) & 1, allowed ? 1u : 0u) << gbnf << " " << pieces[id];
      }
      if (matcher.ended()) break;
    }
  }
}

TEST(MaskWriter, WalksManySetsOfLettersTogether) {
  std::vector<std::string> pieces;
  for (int i = 0; i < 26 * 26 * 26 * 3; ++i) {  // texts of one to four letters, and of digits
    std::string piece;
    for (int rest = i; rest >= 0; rest = rest / 26 - 1) piece += static_cast<char>('a' + rest % 26);
    pieces.push_back(piece);
    if (i < 1000) pieces.push_back(absl::StrCat(i));
  }
  const auto masks = std::make_shared<grammar::TokenMasks>(pieces, size_t{1} << 30);
  std::string gbnf = "root ::= (";
  for (int set = 1; set <= 250; ++set) {
    absl::StrAppend(&gbnf, set > 1 ? " | [" : "[");
    for (int letter = 0; letter < 26; ++letter) {
      if ((set >> letter & 1) == 0) gbnf += static_cast<char>('a' + letter);
    }
    absl::StrAppend(&gbnf, "] \"", set, "\"?");
  }
  auto made = grammar::CompileGbnf(gbnf + ")+");
  ASSERT_TRUE(made.ok()) << made.status();
  const auto grammar = std::make_shared<const grammar::Grammar>(*std::move(made));
  for (const auto& terminal : grammar->terminals) {  // as after many requests
    if (terminal->fan_out(0) >= grammar::kManyBytes) masks->Of(*terminal, 0);
  }
  grammar::Matcher matcher(grammar);
  grammar::MaskWriter writer(masks);
  std::vector<uint32_t> words(masks->num_words());
  std::mt19937 random(TestSeed());
  for (const char* step : {"", "z", "bd7", "z1b"}) {
    ASSERT_TRUE(matcher.Accept(step));
    // What it takes is counted: were each set to walk all that lies behind its letters it would not do.
    ASSERT_EQ(writer.Write(matcher, absl::MakeSpan(words)), grammar::Limit::kNone);
    EXPECT_GT(matcher.machine().work_left(), grammar::StackMachine::kMostWork / 8);
    for (int i = 0; i < 300; ++i) {
      const size_t id = random() % pieces.size();
      const bool allowed = matcher.Accept(pieces[id]);
      if (allowed) matcher.Rollback(1);
      EXPECT_EQ(words[id / 32] >> (id % 32) & 1, allowed ? 1u : 0u) << step << " " << pieces[id];
    }
  }
}

TEST_F(TokenMasksTest, OfLongStringsMindHowMuchIsLeft) {
  std::string text = "\"";
  for (int i = 0; i < 60; ++i) text += "the sea ";
  const std::string schema = absl::StrCat(R"({"type":"string","minLength":)", text.size() - 30,
                                          R"(,"maxLength":)", text.size() + 3, "}");
  for (int time = 0; time < 2; ++time)
    Check(*Start(GrammarSpec::Form::kJsonSchema, schema), text + "end\"");
}

TEST(MaskMemo, KeepsWhatComesTwiceWithinItsBound) {
  grammar::MaskMemo memo(1 << 16);
  std::vector<uint32_t> many(1000, 0x5a5a5a5au), few(1000, 0), out(1001, 7);
  few[3] = 0x80000001u;
  memo.Put({1}, many);
  EXPECT_FALSE(memo.Get({1}, absl::MakeSpan(out)));
  EXPECT_EQ(out[5], 7u);
  memo.Put({1}, many);
  memo.Put({1, 2}, few);
  memo.Put({1, 2}, few);
  many.push_back(0);
  few.push_back(0);
  ASSERT_TRUE(memo.Get({1}, absl::MakeSpan(out)));
  EXPECT_EQ(out, many);
  ASSERT_TRUE(memo.Get({1, 2}, absl::MakeSpan(out)));
  EXPECT_EQ(out, few);
  for (int32_t i = 100; i < 200; ++i) {
    for (int time = 0; time < 2; ++time) memo.Put({i}, many);
    ASSERT_LE(memo.bytes(), size_t{1} << 16);
  }
  EXPECT_TRUE(memo.Get({199}, absl::MakeSpan(out)));
  EXPECT_FALSE(memo.Get({1}, absl::MakeSpan(out)));
}

TEST_F(TokenMasksTest, WhateverIsDrawnUnderThemMatches) {
  std::mt19937 random(TestSeed());
  std::vector<uint32_t> words((static_cast<size_t>(tokenizer_->vocab_size()) + 31) / 32);
  const std::string schema =
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":20},"tags":{"type":)"
      R"("array","items":{"enum":["a","the","sea"]},"maxItems":4},"n":{"type":"integer",)"
      R"("minimum":0,"maximum":500}},"required":["name","n"],"additionalProperties":false})";
  for (int run = 0; run < 50; ++run) {
    const auto matcher = Start(GrammarSpec::Form::kJsonSchema, schema);
    std::string text;
    while (!matcher->ended()) {
      ASSERT_LT(text.size(), 2000u);
      matcher->FillMask(absl::MakeSpan(words));
      std::vector<TokenId> allowed;
      for (TokenId id = 0; id < tokenizer_->vocab_size(); ++id) {
        if ((words[id / 32] >> (id % 32) & 1) != 0) allowed.push_back(id);
      }
      ASSERT_FALSE(allowed.empty()) << text;
      const TokenId id = allowed[random() % allowed.size()];
      ASSERT_TRUE(matcher->Accept(id));
      text += tokenizer_->Piece(id);
    }
    const auto value = nlohmann::json::parse(text, nullptr, false);
    ASSERT_TRUE(value.is_object()) << text;
    EXPECT_LE(value["n"], 500) << text;
  }
}

TEST_F(TokenMasksTest, SpecialTokensAreNeverAllowed) {
  const auto matcher = Start(GrammarSpec::Form::kRegex, "(.|\n)*");
  std::vector<uint32_t> words((static_cast<size_t>(tokenizer_->vocab_size()) + 31) / 32);
  matcher->FillMask(absl::MakeSpan(words));
  int num_special = 0;
  for (TokenId id = 0; id < tokenizer_->vocab_size(); ++id) {
    if (!tokenizer_->is_special(id)) continue;
    ++num_special;
    EXPECT_EQ(words[id / 32] >> (id % 32) & 1, 0u) << id;
  }
  EXPECT_GT(num_special, 0);
  EXPECT_TRUE(matcher->finished());
  EXPECT_FALSE(matcher->ended());
}

TEST_F(TokenMasksTest, HoldNoMoreThanTheyCount) {
  std::vector<std::string> pieces;
  for (int i = 0; i < 5000; ++i) pieces.push_back(std::to_string(i));
  grammar::TokenMasks masks(pieces);
  const std::vector<std::array<int32_t, 256>> rows(1);  // of one state, which goes on to itself
  const grammar::ByteAutomaton anything(rows, {1});
  const auto mask = masks.Of(anything, 0);
  ASSERT_EQ(mask->words.size(), masks.num_words());
  EXPECT_EQ(mask->ids.capacity(), 0u);  // the list that the bits were made from
  EXPECT_LT(mask->bytes(), 2000u);
}

}  // namespace
}  // namespace penstock
