#include "hostile_grammars.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"

namespace penstock {
namespace {

struct HostileCase {
  std::string name;
  std::string gbnf;
  std::string text;  // repeated for as long as it takes
};

/// Letters of the alphabet but for those whose bits are set in `left_out`.
std::string LettersWithout(int left_out) {
  std::string set = "[";
  for (int i = 0; i < 26; ++i) {
    if ((left_out >> i & 1) == 0) set += static_cast<char>('a' + i);
  }
  return set + "]";
}

std::vector<HostileCase> HostileCases() {
  std::string classes = "root ::= (";
  std::string levels;
  for (int i = 1; i <= 300; ++i)
    classes += (i > 1 ? " | " : "") + LettersWithout(i) + " \"" + std::to_string(i) + "\"?";
  classes += ")+\n";
  for (int i = 0; i < 200; ++i) {
    levels += (i == 0 ? std::string("root") : "r" + std::to_string(i)) + " ::= r" +
              std::to_string(i + 1) + " [a-z]? | [a-z]+\n";
  }
  levels += "r200 ::= [a-z]\n";
  std::string words;
  for (int i = 0; i < 40; ++i) words += "the old house by the sea ";
  return {
      {"ordinary list", "root ::= item (\", \" item)*\nitem ::= [a-z]+ | \"(\" root \")\"",
       "the, (old, house), "},
      {"doubled by each a", R"(root ::= "a" root "b" | "a" root "c" | "a")", "a"},
      {"tripled by each letter",
       R"(root ::= [a-z ] root "b" | [a-z ] root "c" | [a-z ] root "d" | "a")", words},
      {"never closed", "root ::= term ((\"+\" | \"-\") term+)*\nterm ::= [0-9]{1,3} | \"(\" root",
       "(12+(3-(456+1-(78"},
      {"never closed, of letters",
       "root ::= term ((\"+\" | \"-\") term+)*\nterm ::= [a-z ]{1,3} | \"(\" root",
       "(the+old-(sea+by-(a"},
      {"right recursion, nothing behind", "root ::= [a-z ] root | [a-z ]", words},
      {"right recursion, perhaps a digit behind",
       "root ::= [a-z ] root digit | [a-z ]\ndigit ::= [0-9]?", words},
      {"two at once", "root ::= [a-z ] | [a-z ] root root", words},
      {"a list of lists of letters", "root ::= (([a-z ]+)+ [a-z ]*)+ root?", words},
      {"three hundred sets of letters", classes, "theoldhousebythesea"},
      {"two hundred rules, each perhaps a letter more", levels, "theoldhousebythesea"},
      {"counted in all ways",
       "root ::= ([a-z ] | [a-z ] [a-z ] | [a-z ] [a-z ] [a-z ]){1,2000} \".\"", words},
  };
}

double HostileThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

absl::Status MeasureHostileGrammars(const Tokenizer& tokenizer, std::FILE* out) {
  constexpr size_t kTokens = 200;
  constexpr double kPatience = 60;  // seconds that a case may take
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  std::vector<uint32_t> words((static_cast<size_t>(tokenizer.vocab_size()) + 31) / 32);
  for (const HostileCase& hostile : HostileCases()) {
    GrammarSpec content;
    content.form = GrammarSpec::Form::kGbnf;
    content.text = hostile.gbnf;
    ReplySpec spec;
    spec.content = std::make_shared<const GrammarSpec>(std::move(content));
    const double begin = HostileThreadSeconds();
    ASSIGN_OR_RETURN(const auto made, compiler.Compile(spec, nullptr));
    const double compile = HostileThreadSeconds() - begin;
    const std::unique_ptr<TokenMatcher> matcher = made->Start();
    std::string text;
    while (text.size() < 20 * kTokens) text += hostile.text;
    std::vector<TokenId> ids = tokenizer.Encode(text, false);
    ids.resize(std::min(ids.size(), kTokens));
    std::vector<double> masks, accepts;
    std::string end = "all";
    for (const TokenId id : ids) {
      if (HostileThreadSeconds() - begin > kPatience) {
        end = "too slow";
        break;
      }
      const double before = HostileThreadSeconds();
      matcher->Forced();
      matcher->FillMask(absl::MakeSpan(words));
      const double between = HostileThreadSeconds();
      masks.push_back((between - before) * 1e3);
      if ((words[id / 32] >> (id % 32) & 1) == 0) {
        end = "not allowed";
        break;
      }
      matcher->Accept(id);
      accepts.push_back((HostileThreadSeconds() - between) * 1e3);
    }
    std::sort(masks.begin(), masks.end());
    const nlohmann::ordered_json line = {
        {"grammar", hostile.name},
        {"compile_ms", compile * 1e3},
        {"tokens", masks.size()},
        {"mask_ms", {{"p50", masks[masks.size() / 2]}, {"max", masks.back()}}},
        {"accept_ms_max",
         accepts.empty() ? 0.0 : *std::max_element(accepts.begin(), accepts.end())},
        {"end", end},
    };
    std::fprintf(out, "%s\n", line.dump().c_str());
    std::fflush(out);
  }
  return absl::OkStatus();
}

}  // namespace penstock
