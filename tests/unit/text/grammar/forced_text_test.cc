// The tokens that a grammar leaves no choice about: those of the tokenizer's own writing of the
// whole text, whoever asks where.
#include "text/grammar/forced_text.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "marker_tokenizer.h"
#include "test_seed.h"
#include "text/grammar/grammar_compiler.h"
#include "text/tokenizer_loader.h"

namespace penstock {
namespace {

constexpr const char* kOrder =
    R"({"type":"object","properties":{"customer_name":{"type":"string"},)"
    R"("delivery_address":{"type":"object","properties":{"street":{"type":"string"},)"
    R"("postal_code":{"type":"string","pattern":"^[0-9]{5}$"}},"required":["street","postal_code"],)"
    R"("additionalProperties":false},"status":{"enum":["delivered","in delivery"]},)"
    R"("number_of_items":{"type":"integer"},"naïve_größe":{"const":"größer als 1 €"}},"required":)"
    R"(["customer_name","delivery_address","status","number_of_items","naïve_größe"],)"
    R"("additionalProperties":false})";

std::shared_ptr<const TokenGrammar> OrderGrammar(const GrammarCompiler& compiler) {
  ReplySpec spec;
  auto content = std::make_shared<GrammarSpec>();
  content->form = GrammarSpec::Form::kJsonSchema;
  content->text = kOrder;
  spec.content = content;
  auto made = compiler.Compile(spec, nullptr);
  EXPECT_TRUE(made.ok()) << made.status();
  return *made;
}

class ForcedTokens : public ::testing::TestWithParam<const char*> {};

TEST_P(ForcedTokens, AreThoseOfTheWholeText) {
  const std::string file =
      std::string(PENSTOCK_SHARED_DATA "/tokenizers/") + GetParam() + "/tokenizer.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "the shared data is not there";
  const auto loaded = LoadTokenizer(file);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Tokenizer& tokenizer = **loaded;
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  const auto grammar = OrderGrammar(compiler);
  const std::string texts[] = {
      R"({"customer_name": "Ada", "delivery_address": {"street": "Main St. 7", "postal_code": )"
      R"("01234"}, "status": "in delivery", "number_of_items": 12, "naïve_größe": "größer als 1 €"})",
      R"({"customer_name":"","delivery_address":{"street":" x ","postal_code":"99999"},"status":)"
      R"("delivered","number_of_items":-7,"naïve_größe":"größer als 1 €"})",
  };
  size_t num_forced = 0, num_tokens = 0;
  for (const std::string& text : texts) {
    const std::vector<TokenId> ids = tokenizer.Encode(text, false);
    const auto matcher = grammar->Start();
    for (size_t i = 0; i < ids.size(); ++i) {
      const absl::Span<const TokenId> forced = matcher->Forced();
      for (size_t j = 0; j < forced.size(); ++j) {
        ASSERT_LT(i + j, ids.size());
        EXPECT_EQ(forced[j], ids[i + j])
            << tokenizer.Piece(forced[j]) << " instead of " << tokenizer.Piece(ids[i + j])
            << " behind " << tokenizer.Decode(absl::MakeConstSpan(ids).first(i), false);
      }
      num_forced += forced.empty() ? 0 : 1;
      ++num_tokens;
      ASSERT_TRUE(matcher->Accept(ids[i])) << tokenizer.Piece(ids[i]);
    }
    EXPECT_TRUE(matcher->finished());
    EXPECT_TRUE(matcher->Forced().empty());
  }
  std::cout << GetParam() << ": " << num_forced << " of " << num_tokens << " tokens are forced\n";
  EXPECT_GT(num_forced, num_tokens / 5);
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, ForcedTokens,
                         ::testing::Values("gpt2", "llama3.1", "qwen2.5", "llama2", "phi-3",
                                           "gpt-oss", "mistral-v0.3", "falcon"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

TEST(ForcedText, IsAllowedAndTheSameWhereverItIsAskedFor) {
  std::mt19937 random(static_cast<uint32_t>(TestSeed()));
  const MarkerTokenizer tokenizer({"<tool_call>", "</tool_call>"});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  ReplySpec spec;
  for (const CallFormat& format : CallFormats()) {
    if (format.name == "hermes") spec.calls = &format;
  }
  spec.functions = {{"weather", kOrder, "tools[0]", true}};
  const auto made = compiler.Compile(spec, nullptr);
  ASSERT_TRUE(made.ok()) << made.status();
  const auto first = (*made)->Start();
  ASSERT_GT(first->Forced().size(), 30u);
  EXPECT_EQ(first->Forced()[0], 256);  // the special token
  size_t num_forced = 0;
  for (int round = 0; round < 20; ++round) {
    const auto matcher = (*made)->Start();
    for (int step = 0; step < 300 && !matcher->ended(); ++step) {
      const std::vector<TokenId> allowed = Allowed(*matcher, tokenizer.vocab_size());
      ASSERT_FALSE(allowed.empty());
      const absl::Span<const TokenId> forced = matcher->Forced();
      const std::vector<TokenId> ahead(forced.begin(), forced.end());
      // Bytes are tokens here: a text is forced where one token alone is allowed.
      EXPECT_EQ(!ahead.empty(), allowed.size() == 1 && !matcher->finished());
      int32_t taken = 0;
      for (const TokenId id : ahead) {
        const std::vector<TokenId> only = Allowed(*matcher, tokenizer.vocab_size());
        EXPECT_EQ(only, std::vector<TokenId>{id});
        ASSERT_TRUE(matcher->Accept(id));
        ++taken;
        const absl::Span<const TokenId> rest = matcher->Forced();
        if (taken < static_cast<int32_t>(ahead.size())) {
          EXPECT_EQ(std::vector<TokenId>(rest.begin(), rest.end()),
                    std::vector<TokenId>(ahead.begin() + taken, ahead.end()));
        }
      }
      matcher->Rollback(taken);
      const absl::Span<const TokenId> again = matcher->Forced();
      EXPECT_EQ(std::vector<TokenId>(again.begin(), again.end()), ahead);
      num_forced += ahead.empty() ? 0 : 1;
      ASSERT_TRUE(matcher->Accept(allowed[random() % allowed.size()]));
    }
  }
  EXPECT_GT(num_forced, 1000u);
}

TEST(ForcedText, LeavesChoicesToTheModel) {
  const MarkerTokenizer tokenizer({});
  const GrammarCompiler compiler(&tokenizer, tokenizer.vocab_size());
  const auto grammar_of = [&](const char* text) {
    ReplySpec spec;
    auto content = std::make_shared<GrammarSpec>();
    content->form = GrammarSpec::Form::kGbnf;
    content->text = text;
    spec.content = content;
    return (*compiler.Compile(spec, nullptr))->Start();
  };
  EXPECT_TRUE(grammar_of("root ::= \"ab\" | \"cd\"")->Forced().empty());
  EXPECT_EQ(grammar_of("root ::= \"ab\" | \"ac\"")->Forced().size(), 1u);
  EXPECT_EQ(grammar_of("root ::= \"ab\" \"c\"?")->Forced().size(), 2u);  // it may end there
  EXPECT_EQ(grammar_of("root ::= \"a\"+ ")->Forced().size(), 1u);
  EXPECT_EQ(grammar_of("root ::= \"a\"{7} [xy]")->Forced().size(), 7u);
}

}  // namespace
}  // namespace penstock
