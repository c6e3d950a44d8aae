// A grammar in GBNF from anywhere: an error, or a program that the matcher can follow.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "text/grammar/gbnf.h"
#include "text/grammar/matcher.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock::grammar;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto made = CompileGbnf(text);
  if (!made.ok()) return 0;
  Matcher matcher(std::make_shared<const Grammar>(*std::move(made)));
  // Along some way, chosen by the input's own bytes, as long as there is one.
  for (size_t i = 0; i < 200 && !matcher.ended(); ++i) {
    const auto first = static_cast<uint8_t>(size == 0 ? 0 : data[i % size]);
    bool moved = false;
    for (int b = 0; b < 256 && !moved; ++b) {
      const char byte = static_cast<char>(first + b);
      moved = matcher.Accept({&byte, 1});
    }
    if (!moved && !matcher.finished()) __builtin_trap();  // a way that leads nowhere
    if (!moved) break;
  }
  matcher.Rollback(matcher.num_steps());
  return 0;
}
