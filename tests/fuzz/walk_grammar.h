// Follows a grammar along some way, chosen by an input's own bytes, as long as there is one.
// Owns nothing. Must not know where the grammar came from.
// Threads: for one fuzz target.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "text/grammar/matcher.h"

namespace penstock::grammar {

/// Traps where a way leads nowhere.
inline void WalkGrammar(Grammar grammar, const uint8_t* data, size_t size) {
  Matcher matcher(std::make_shared<const Grammar>(std::move(grammar)));
  for (size_t i = 0; i < 200 && !matcher.ended(); ++i) {
    const auto first = static_cast<uint8_t>(size == 0 ? 0 : data[i % size]);
    bool moved = false;
    for (int b = 0; b < 256 && !moved; ++b) {
      const char byte = static_cast<char>(first + b);
      moved = matcher.Accept({&byte, 1});
    }
    if (!moved && !matcher.finished()) __builtin_trap();
    if (!moved) break;
  }
  matcher.Rollback(matcher.num_steps());
}

}  // namespace penstock::grammar
