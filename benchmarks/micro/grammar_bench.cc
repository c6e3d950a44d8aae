// Milliseconds to compile the schemas of the shared corpus and microseconds for the mask of each
// token of their instances, written as json.dumps does, by default and compact, on one thread; and
// of how many schemas every valid instance was accepted and every invalid one refused. Prints one
// JSON line.
//   grammar_bench TOKENIZER [EVERY_NTH_SCHEMA [DUMP]]
//   grammar_bench TOKENIZER ambiguous: hostile grammars instead, a line each.
// DUMP gets the work, a line per schema, for grammar_bench.py to give to others.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status_macros.h"
#include "hostile_grammars.h"
#include "text/grammar/grammar_compiler.h"
#include "text/tokenizer_loader.h"
#include "unit/text/grammar/schema_corpus.h"

namespace penstock {
namespace {

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Times {
  std::vector<double> seconds;
  std::string Json(double unit) {
    std::sort(seconds.begin(), seconds.end());
    const auto at = [&](double q) {
      return seconds.empty()
                 ? 0.0
                 : seconds[static_cast<size_t>(q * static_cast<double>(seconds.size() - 1))] / unit;
    };
    double sum = 0;
    for (const double s : seconds) sum += s / unit;
    char text[200];
    std::snprintf(text, sizeof(text),
                  "{\"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f, "
                  "\"mean\": %.2f, \"n\": %zu}",
                  at(0.5), at(0.9), at(0.99), at(0.999), at(1),
                  sum / static_cast<double>(std::max<size_t>(seconds.size(), 1)), seconds.size());
    return text;
  }
};

/// Whether the instance is accepted, token by token. INTERNAL where a mask and its matcher disagree.
absl::StatusOr<bool> IsAccepted(const TokenGrammar& grammar, const Tokenizer& tokenizer,
                                const std::string& text, std::vector<uint32_t>& words,
                                Times& mask) {
  const std::unique_ptr<TokenMatcher> matcher = grammar.Start();
  for (const TokenId id : tokenizer.Encode(text, false)) {
    const double before = ThreadSeconds();
    matcher->FillMask(absl::MakeSpan(words));
    mask.seconds.push_back(ThreadSeconds() - before);
    const bool allowed = (words[id / 32] >> (id % 32) & 1) != 0;
    if (matcher->Accept(id) != allowed)
      return absl::InternalError("a mask and its matcher disagree: " + text);
    if (!allowed) return false;
  }
  return matcher->finished();
}

absl::Status Run(int argc, char** argv) {
  if (argc < 2) return absl::InvalidArgumentError("usage: grammar_bench TOKENIZER [NTH [DUMP]]");
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(argv[1]));
  if (argc > 2 && std::string_view(argv[2]) == "ambiguous")
    return MeasureHostileGrammars(*tokenizer, stdout);
  const size_t stride = argc > 2 ? std::stoul(argv[2]) : 1;
  std::ofstream dump;
  if (argc > 3) dump.open(argv[3]);
  const std::vector<grammar::SchemaCase> cases = grammar::ReadSchemaCorpus();
  if (cases.empty()) return absl::NotFoundError("the shared schemas are not there");
  const GrammarCompiler compiler(tokenizer.get(), tokenizer->vocab_size());
  ReplySpec object;
  object.content = std::make_shared<const GrammarSpec>();
  const double start = ThreadSeconds();
  RETURN_IF_ERROR(compiler.Compile(object, nullptr).status());
  const double prepare = ThreadSeconds() - start;
  std::vector<uint32_t> words((static_cast<size_t>(tokenizer->vocab_size()) + 31) / 32);
  Times compile, mask;
  size_t num_kept = 0, num_denied = 0, num_accepted_invalid = 0, num_instances = 0, num_refused = 0;
  for (size_t i = 0; i < cases.size(); i += stride) {
    GrammarSpec content;
    content.form = GrammarSpec::Form::kJsonSchema;
    content.text = cases[i].schema.dump();
    ReplySpec spec;
    spec.content = std::make_shared<const GrammarSpec>(std::move(content));
    const double begin = ThreadSeconds();
    const auto made = compiler.Compile(spec, nullptr);
    compile.seconds.push_back(ThreadSeconds() - begin);
    const grammar::InstanceOrder order(cases[i].schema);
    if (dump.is_open()) {
      nlohmann::ordered_json line = {{"schema", cases[i].schema.dump()},
                                     {"tests", nlohmann::ordered_json::array()}};
      for (const auto& test : cases[i].tests) {
        for (const bool compact : {false, true}) {
          const std::string text = grammar::PythonJson(order.Ordered(test.data), compact);
          line["tests"].push_back({{"valid", test.valid}, {"ids", tokenizer->Encode(text, false)}});
        }
      }
      dump << line.dump() << "\n";
    }
    if (!made.ok()) {
      ++num_refused;
      continue;
    }
    const size_t num_wrong = num_denied + num_accepted_invalid;
    for (const auto& test : cases[i].tests) {
      const auto ordered = order.Ordered(test.data);
      for (const bool compact : {false, true}) {
        const std::string text = grammar::PythonJson(ordered, compact);
        ASSIGN_OR_RETURN(const bool accepted, IsAccepted(**made, *tokenizer, text, words, mask));
        ++num_instances;
        num_denied += test.valid && !accepted ? 1 : 0;
        num_accepted_invalid += !test.valid && accepted ? 1 : 0;
      }
    }
    num_kept += num_wrong == num_denied + num_accepted_invalid ? 1 : 0;
  }
  std::printf(
      "{\"vocabulary\": %d, \"prepare_ms\": %.1f, \"compile_ms\": %s, \"mask_us\": %s, "
      "\"schemas\": %zu, \"kept\": %zu, \"refused\": %zu, \"instances\": %zu, \"valid_denied\": "
      "%zu, "
      "\"invalid_accepted\": %zu}\n",
      tokenizer->vocab_size(), prepare * 1e3, compile.Json(1e-3).c_str(), mask.Json(1e-6).c_str(),
      compile.seconds.size(), num_kept, num_refused, num_instances, num_denied,
      num_accepted_invalid);
  return absl::OkStatus();
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
  const absl::Status status = penstock::Run(argc, argv);
  if (!status.ok())
    std::fprintf(stderr, "grammar_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
