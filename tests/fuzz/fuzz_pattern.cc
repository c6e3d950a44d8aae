// An expression from anywhere: an error, or an automaton that the matcher can follow.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/grammar/pattern.h"
#include "walk_grammar.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock::grammar;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto language = CompilePattern(text, PatternUse::kSearch);
  if (!language.ok()) return 0;
  GrammarBuilder builder;
  auto made =
      builder.Build(builder.Terminal(ByteAutomaton::Of(*language, TextEncoding::kJsonString)));
  if (!made.ok()) return 0;
  WalkGrammar(*std::move(made), data, size);
  return 0;
}
