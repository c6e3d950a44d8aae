// Schemas from the field: valid instances are accepted, invalid ones refused, or the schema is
// refused with the keyword that cannot be kept.
#include "unit/text/grammar/schema_corpus.h"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>

#include "base/sanitizers.h"
#include "gtest/gtest.h"
#include "text/grammar/grammar_compiler.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"
#include "text/tokenizer_loader.h"

namespace penstock::grammar {
namespace {

bool Matches(const std::shared_ptr<const Grammar>& grammar, const std::string& text) {
  Matcher matcher(grammar);
  return matcher.Accept(text) && matcher.finished();
}

/// Every tenth schema, or less often where that takes longer; PENSTOCK_SCHEMAS=all takes all of them.
size_t Stride(size_t usual) {
  const char* which = std::getenv("PENSTOCK_SCHEMAS");
  return which != nullptr && std::string(which) == "all" ? 1 : usual;
}

/// As the engine takes them: what a mask does not allow is never accepted.
bool MatchesByToken(const TokenGrammar& grammar, const Tokenizer& tokenizer,
                    const std::string& text) {
  const std::unique_ptr<TokenMatcher> matcher = grammar.Start();
  std::vector<uint32_t> words((static_cast<size_t>(tokenizer.vocab_size()) + 31) / 32);
  for (const TokenId id : tokenizer.Encode(text, false)) {
    matcher->FillMask(absl::MakeSpan(words));
    const bool allowed = (words[id / 32] >> (id % 32) & 1) != 0;
    EXPECT_EQ(matcher->Accept(id), allowed) << "'" << tokenizer.Piece(id) << "' of " << text;
    if (!allowed) return false;
  }
  return matcher->finished();
}

TEST(SchemaCorpus, InstancesAreAcceptedTokenByToken) {
  const std::vector<SchemaCase> cases = ReadSchemaCorpus();
  if (cases.empty()) GTEST_SKIP() << "no shared data at " << PENSTOCK_SHARED_DATA << "/schemas";
  const size_t stride = Stride(kSanitized ? 400 : 40);
  size_t offset = 0;
  std::vector<const char*> names = {"gpt2", "llama3.1", "qwen2.5"};
  if (kSanitized) names.resize(1);  // the others take a minute to load there
  for (const char* name : names) {
    const auto tokenizer =
        LoadTokenizer(std::string(PENSTOCK_SHARED_DATA "/tokenizers/") + name + "/tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    const GrammarCompiler compiler(tokenizer->get(), (*tokenizer)->vocab_size());
    size_t num_schemas = 0, num_kept = 0, num_refused = 0;
    for (size_t i = offset++ % stride; i < cases.size(); i += stride) {
      ++num_schemas;
      GrammarSpec content;
      content.form = GrammarSpec::Form::kJsonSchema;
      content.strict = true;
      content.text = cases[i].schema.dump();
      ReplySpec spec;
      spec.content = std::make_shared<const GrammarSpec>(content);
      const auto compiled = compiler.Compile(spec, nullptr);
      if (!compiled.ok()) {
        EXPECT_THAT(std::string(compiled.status().message()), ::testing::StartsWith("#"));
        ++num_refused;
        continue;
      }
      const InstanceOrder order(cases[i].schema);
      for (const SchemaCase::Test& test : cases[i].tests) {
        for (const bool compact : {false, true}) {
          const std::string text = PythonJson(order.Ordered(test.data), compact);
          EXPECT_EQ(MatchesByToken(**compiled, **tokenizer, text), test.valid)
              << name << ", " << cases[i].id << ": " << text.substr(0, 300);
        }
      }
      ++num_kept;
    }
    std::cout << name << ": " << num_schemas << " schemas, " << num_refused << " refused\n";
    EXPECT_GE(static_cast<double>(num_kept), 0.97 * static_cast<double>(num_schemas));
  }
}

TEST(SchemaCorpus, InstancesAreAcceptedAndRefusedAsLabelled) {
  const std::vector<SchemaCase> cases = ReadSchemaCorpus();
  if (cases.empty()) GTEST_SKIP() << "no shared data at " << PENSTOCK_SHARED_DATA << "/schemas";
  const size_t stride = Stride(kSanitized ? 40 : 10);
  size_t num_schemas = 0, num_kept = 0, num_refused = 0, num_wrongly_refused = 0;
  size_t num_accepted_invalid = 0, num_tests = 0;
  std::vector<double> millis;
  std::string wrong;
  for (size_t i = 0; i < cases.size(); i += stride) {
    const SchemaCase& one = cases[i];
    ++num_schemas;
    const auto begin = std::chrono::steady_clock::now();
    absl::StatusOr<Grammar> compiled = CompileJsonSchema(one.schema, {});
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    millis.push_back(took.count());
    if (!compiled.ok()) {
      ++num_refused;
      EXPECT_THAT(std::string(compiled.status().message()), ::testing::StartsWith("#")) << one.id;
      wrong += one.id + ": " + std::string(compiled.status().message()) + "\n";
      continue;
    }
    const auto grammar = std::make_shared<const Grammar>(*std::move(compiled));
    const InstanceOrder order(one.schema);
    bool right = true;
    for (size_t t = 0; t < one.tests.size(); ++t) {
      const nlohmann::ordered_json value = order.Ordered(one.tests[t].data);
      for (const bool compact : {false, true}) {
        const std::string text = PythonJson(value, compact);
        ++num_tests;
        const bool matches = Matches(grammar, text);
        if (matches == one.tests[t].valid) continue;
        right = false;
        num_accepted_invalid += matches ? 1 : 0;
        if (compact) continue;
        wrong += one.id + " test " + std::to_string(t) +
                 (matches ? ": accepts invalid " : ": refuses valid ") + text.substr(0, 300) + "\n";
      }
    }
    num_kept += right ? 1 : 0;
    num_wrongly_refused += right ? 0 : 1;
  }
  std::sort(millis.begin(), millis.end());
  std::cout << wrong << num_schemas << " schemas with " << num_tests << " texts: " << num_kept
            << " kept, " << num_refused << " refused, " << num_wrongly_refused << " wrong; "
            << num_accepted_invalid << " invalid texts accepted; compiled in "
            << millis[millis.size() / 2] << " ms at the median, "
            << millis[millis.size() * 99 / 100] << " ms at p99, " << millis.back()
            << " ms at most\n";
  EXPECT_EQ(num_accepted_invalid, 0u);
  EXPECT_EQ(num_wrongly_refused, 0u);  // labels that are listed as wrong apart
  EXPECT_GE(static_cast<double>(num_kept), 0.97 * static_cast<double>(num_schemas));
}

}  // namespace
}  // namespace penstock::grammar
