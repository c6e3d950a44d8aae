// Schemas from the field: valid instances are accepted, invalid ones refused, or the schema is
// refused with the keyword that cannot be kept.
#include "unit/text/grammar/schema_corpus.h"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>

#include "base/sanitizers.h"
#include "gtest/gtest.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"

namespace penstock::grammar {
namespace {

bool Matches(const std::shared_ptr<const Grammar>& grammar, const std::string& text) {
  Matcher matcher(grammar);
  return matcher.Accept(text) && matcher.finished();
}

TEST(SchemaCorpus, InstancesAreAcceptedAndRefusedAsLabelled) {
  const std::vector<SchemaCase> cases = ReadSchemaCorpus();
  if (cases.empty()) GTEST_SKIP() << "no shared data at " << PENSTOCK_SHARED_DATA << "/schemas";
  // Every tenth schema, or under a sanitizer every fortieth; PENSTOCK_SCHEMAS=all takes all of them.
  const char* which = std::getenv("PENSTOCK_SCHEMAS");
  const size_t stride = which != nullptr && std::string(which) == "all" ? 1 : kSanitized ? 40 : 10;
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
