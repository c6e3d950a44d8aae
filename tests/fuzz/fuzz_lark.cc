// A grammar in the notation of Lark from anywhere: an error, or a program that the matcher can follow.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/grammar/lark.h"
#include "walk_grammar.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock::grammar;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto made = CompileLark(text);
  if (!made.ok()) return 0;
  WalkGrammar(*std::move(made), data, size);
  return 0;
}
