// Ambiguous grammars against a reader of texts that knows nothing of stacks: random rules, all short
// texts. And what becomes of those that nobody could follow.
#include <map>
#include <random>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/sanitizers.h"
#include "gtest/gtest.h"
#include "test_seed.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/mask_writer.h"

namespace penstock::grammar {
namespace {

using Ends = std::set<size_t>;

/// Part of a random grammar: as it is written, and which parts of a text it matches.
struct Rule;
struct Part {
  enum class Kind { kLetters, kSequence, kChoice, kRepeat, kRule } kind = Kind::kLetters;
  std::string letters = {};
  std::vector<Part> parts = {};
  size_t min = 0, max = 0;  // kRepeat; 0: any number
  size_t rule = 0;

  std::string Gbnf() const {
    std::string text;
    switch (kind) {
      case Kind::kLetters:
        return absl::StrCat("[", letters, "]");
      case Kind::kRule:
        return rule == 0 ? "root" : absl::StrCat("r", rule);
      case Kind::kRepeat:
        return absl::StrCat("(", parts[0].Gbnf(), "){", min, ",", max == 0 ? "" : absl::StrCat(max),
                            "}");
      default:
        for (const Part& part : parts)
          absl::StrAppend(&text,
                          text.empty()            ? ""
                          : kind == Kind::kChoice ? " | "
                                                  : " ",
                          part.Gbnf());
        return absl::StrCat("(", text, ")");
    }
  }
};

class Reader {
 public:
  Reader(const std::vector<Part>& rules, const std::string& text) : rules_(rules), text_(text) {}
  bool Matches() { return At(rules_[0], 0).contains(text_.size()); }

 private:
  const Ends& At(const Part& part, size_t begin) {
    const auto found = known_.find({&part, begin});
    if (found != known_.end()) return found->second;
    return known_[{&part, begin}] = Find(part, begin);
  }
  Ends All(const Part& part, const Ends& begins) {
    Ends ends;
    for (const size_t begin : begins) ends.merge(Ends(At(part, begin)));
    return ends;
  }
  Ends Find(const Part& part, size_t begin) {
    Ends ends;
    switch (part.kind) {
      case Part::Kind::kLetters:
        if (begin < text_.size() && part.letters.find(text_[begin]) != std::string::npos)
          ends.insert(begin + 1);
        return ends;
      case Part::Kind::kRule:
        return At(rules_[part.rule], begin);
      case Part::Kind::kChoice:
        for (const Part& option : part.parts) ends.merge(Ends(At(option, begin)));
        return ends;
      case Part::Kind::kSequence:
        ends.insert(begin);
        for (const Part& next : part.parts) ends = All(next, ends);
        return ends;
      case Part::Kind::kRepeat: {
        Ends at{begin};
        const size_t most = part.max == 0 ? part.min + text_.size() + 1 : part.max;
        for (size_t turn = 0;; ++turn) {
          if (turn >= part.min) ends.insert(at.begin(), at.end());
          if (turn == most) return ends;
          at = All(part.parts[0], at);
        }
      }
    }
    return ends;
  }

  const std::vector<Part>& rules_;
  const std::string& text_;
  std::map<std::pair<const Part*, size_t>, Ends> known_;
};

class Rules {
 public:
  explicit Rules(uint32_t seed) : random_(seed) {
    const size_t num_rules = 1 + random_() % 4;
    for (size_t rule = 0; rule < num_rules; ++rule) {
      Part body{Part::Kind::kChoice};
      for (size_t n = 1 + random_() % 3; n > 0; --n)
        body.parts.push_back(Sequence(rule, num_rules, 2));
      made.push_back(body);
    }
  }
  std::vector<Part> made;

 private:
  Part Letters() {
    static constexpr const char* kSets[] = {"a", "b", "ab", "abc", "c"};
    return {Part::Kind::kLetters, kSets[random_() % 5]};
  }
  /// Before any letter only later rules are called.
  Part Sequence(size_t rule, size_t num_rules, int depth) {
    Part sequence{Part::Kind::kSequence};
    bool any = random_() % 4 == 0 && rule + 1 < num_rules;
    if (any) {
      sequence.parts.push_back(Call(rule + 1 + random_() % (num_rules - rule - 1)));
      any = false;
    }
    for (size_t n = 1 + random_() % 3; n > 0; --n) {
      const uint32_t what = random_() % 6;
      if (what < 2 && any) {
        sequence.parts.push_back(Call(random_() % num_rules));
      } else if (what == 2 && depth > 0) {
        Part repeat{Part::Kind::kRepeat};
        repeat.min = random_() % 3;
        static constexpr size_t kMost[] = {0, 1, 3, 6, 9};
        repeat.max = kMost[random_() % 5];
        if (repeat.max != 0 && repeat.max < repeat.min) repeat.max = repeat.min;
        repeat.parts.push_back(Sequence(rule, num_rules, depth - 1));
        sequence.parts.push_back(repeat);
      } else if (what == 3 && depth > 0) {
        Part choice{Part::Kind::kChoice};
        for (int i = 0; i < 2; ++i) choice.parts.push_back(Sequence(rule, num_rules, depth - 1));
        sequence.parts.push_back(choice);
      } else {
        sequence.parts.push_back(Letters());
        any = true;
      }
    }
    return sequence;
  }
  static Part Call(size_t rule) {
    Part call{Part::Kind::kRule};
    call.rule = rule;
    return call;
  }
  std::mt19937 random_;
};

/// Goes through all texts that `matcher` lets begin; how many match.
int CompareTexts(const std::vector<Part>& rules, Matcher& matcher, std::string& text, bool alive) {
  constexpr size_t kLongest = 6;
  const bool matches = Reader(rules, text).Matches();
  EXPECT_EQ(alive && matcher.finished(), matches) << text;
  int num = matches ? 1 : 0;
  if (text.size() == kLongest) return num;
  for (const char letter : {'a', 'b', 'c'}) {
    text.push_back(letter);
    const bool goes_on = alive && matcher.Accept({&letter, 1});
    num += CompareTexts(rules, matcher, text, goes_on);
    if (goes_on) matcher.Rollback(1);
    text.pop_back();
  }
  return num;
}

/// Walks the matcher at random and compares each mask with the tokens asked one by one.
int CompareMasks(const std::vector<std::string>& pieces, Matcher& matcher, MaskWriter& writer,
                 std::mt19937& random) {
  std::vector<uint32_t> words(2);
  int num_allowed = 0;
  for (int step = 0; step < 4; ++step) {
    if (writer.Write(matcher, absl::MakeSpan(words)) != Limit::kNone) return num_allowed;
    std::vector<size_t> allowed;
    for (size_t id = 0; id < pieces.size(); ++id) {
      const bool accepts = matcher.Accept(pieces[id]);
      if (accepts) matcher.Rollback(1);
      EXPECT_EQ(words[id / 32] >> (id % 32) & 1, accepts ? 1u : 0u) << pieces[id];
      if (accepts) allowed.push_back(id);
    }
    num_allowed += static_cast<int>(allowed.size());
    if (allowed.empty()) break;
    EXPECT_TRUE(matcher.Accept(pieces[allowed[random() % allowed.size()]]));
  }
  return num_allowed;
}

TEST(AmbiguousGrammar, MatchesWhatItsRulesSay) {
  const uint32_t seed = TestSeed();
  int num_grammars = 0, num_matches = 0, num_allowed = 0;
  std::mt19937 random(seed);
  std::vector<std::string> pieces = {"a", "b", "c"};  // all texts of up to three of them
  for (size_t i = 0; pieces.size() < 39; ++i) {
    for (const char letter : {'a', 'b', 'c'}) pieces.push_back(pieces[i] + letter);
  }
  const auto masks = std::make_shared<TokenMasks>(pieces);
  const int num_runs = kSanitized ? 12 : 150;
  for (int run = 0; run < num_runs; ++run) {
    const Rules rules(seed + run);
    std::string gbnf;
    for (size_t i = 0; i < rules.made.size(); ++i)
      absl::StrAppend(&gbnf, i == 0 ? "root" : absl::StrCat("r", i), " ::= ", rules.made[i].Gbnf(),
                      "\n");
    SCOPED_TRACE(gbnf);
    auto made = CompileGbnf(gbnf);
    if (!made.ok()) continue;
    ++num_grammars;
    Matcher matcher(std::make_shared<const Grammar>(*std::move(made)));
    std::string text;
    num_matches += CompareTexts(rules.made, matcher, text, true);
    MaskWriter writer(masks);
    num_allowed += CompareMasks(pieces, matcher, writer, random);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
  EXPECT_GT(num_grammars, num_runs / 3);
  EXPECT_GT(num_matches, num_runs * 10 / 3);
  EXPECT_GT(num_allowed, num_runs * 10 / 3);
}

std::shared_ptr<const Grammar> Compiled(std::string_view text) {
  auto made = CompileGbnf(text);
  EXPECT_TRUE(made.ok()) << made.status();
  return std::make_shared<const Grammar>(*std::move(made));
}

TEST(AmbiguousGrammar, RulesThatReturnToOnePlaceKeepApartWhoCalledThem) {
  // In the first way both go on at the c; in the second each has a letter of its own.
  const auto grammar = Compiled(
      "root ::= (one | two) \"c\" | \"a\" (one \"d\" | two \"e\")\n"
      "one ::= \"b\" | \"b\" one \"x\"\n"
      "two ::= \"b\" two \"y\" | \"z\"");
  for (const char* text : {"bc", "zc", "bbxc", "bzyc", "abd", "aze", "abbxd", "abzye"}) {
    Matcher matcher(grammar);
    EXPECT_TRUE(matcher.Accept(text) && matcher.finished()) << text;
  }
  for (const char* text : {"abe", "azd", "bbyc", "bzxc", "abbxe", "abzyd"}) {
    Matcher matcher(grammar);
    EXPECT_FALSE(matcher.Accept(text) && matcher.finished()) << text;
  }
}

TEST(AmbiguousGrammar, StacksGrowWithTheTextAlone) {
  // Each a doubles the ways to go on, and each of them is one.
  Matcher matcher(Compiled("root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\""));
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(matcher.Accept("a"));
    ASSERT_LE(matcher.state().ways.size(), 12u);
  }
  EXPECT_LE(matcher.machine().num_nodes(), 5000u);
  EXPECT_FALSE(matcher.Accept("d"));
  std::mt19937 random(TestSeed());
  for (int i = 0; i < 1999; ++i) {
    EXPECT_FALSE(matcher.finished());
    ASSERT_TRUE(matcher.Accept(random() % 2 == 0 ? "b" : "c"));
  }
  EXPECT_TRUE(matcher.finished());
  EXPECT_TRUE(matcher.ended());
}

TEST(AmbiguousGrammar, WhatNobodyCouldFollowIsSaid) {
  Matcher matcher(Compiled("root ::= (\"a\" | \"aa\" | \"aaa\"){1,100000} \".\""));
  ASSERT_TRUE(matcher.Accept("aaaa"));
  EXPECT_FALSE(matcher.too_ambiguous());
  auto masks = std::make_shared<TokenMasks>(std::vector<std::string>{"a", "b", ".", "aa.", "aab"});
  MaskWriter writer(masks);
  std::vector<uint32_t> words(1);
  EXPECT_EQ(writer.Write(matcher, absl::MakeSpan(words)), Limit::kNone);
  EXPECT_EQ(words[0], 0b01101u);
  // One step of so many bytes is more than anybody should wait for.
  EXPECT_TRUE(matcher.Accept(std::string(5000, 'a')));
  EXPECT_TRUE(matcher.too_ambiguous());
  EXPECT_FALSE(matcher.ended());
  words[0] = ~0u;
  EXPECT_EQ(writer.Write(matcher, absl::MakeSpan(words)), Limit::kWork);
  EXPECT_EQ(words[0], 0u);
  matcher.Rollback(1);
  EXPECT_FALSE(matcher.too_ambiguous());
  EXPECT_EQ(writer.Write(matcher, absl::MakeSpan(words)), Limit::kNone);
  EXPECT_EQ(words[0], 0b01101u);
}

}  // namespace
}  // namespace penstock::grammar
