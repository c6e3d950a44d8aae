// A regular language over bytes as a table: what the matcher and the token masks run on.
// Owns the table. Must not know grammars or tokens.
// Threads: immutable once made.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "text/grammar/char_automaton.h"

namespace penstock::grammar {

/// How a text of code points is written: as UTF-8, or as a JSON string with its quotes. In a JSON
/// string `"`, `\` and control characters are escaped, others from U+007F on may be, ASCII is not.
enum class TextEncoding : uint8_t { kUtf8, kJsonString };

class ByteAutomaton {
 public:
  static constexpr int32_t kDead = -1;

  /// Rows of 256 targets each; the start is state 0.
  ByteAutomaton(const std::vector<std::array<int32_t, 256>>& rows, std::vector<uint8_t> accepts);
  /// Rows [states, classes] of the bytes that are told apart.
  ByteAutomaton(const std::array<uint8_t, 256>& class_of, std::vector<int32_t> next,
                std::vector<uint8_t> accepts);

  static ByteAutomaton Literal(std::string_view text);
  /// Of more than kMaxStates states nothing is left but too_large().
  static ByteAutomaton Of(const CharAutomaton& chars, TextEncoding encoding);
  static constexpr size_t kMaxStates = 80'000;
  bool too_large() const { return too_large_; }

  int32_t Next(int32_t state, uint8_t byte) const {
    return next_[static_cast<size_t>(state) * num_classes_ + class_of_[byte]];
  }
  bool accepts(int32_t state) const { return flags_[state] & 1; }
  /// Whether any byte leads on.
  bool goes_on(int32_t state) const { return flags_[state] & 2; }
  /// Bytes that lead on.
  int32_t fan_out(int32_t state) const { return fan_out_[state]; }
  int32_t num_states() const { return static_cast<int32_t>(flags_.size()); }
  /// The state inside a JSON string after which every further string is allowed; kDead: none. Its
  /// language is the same in all automata that have one.
  int32_t free_state() const { return free_state_; }

  /// Equal languages written alike have equal digests.
  using Digest = std::pair<uint64_t, uint64_t>;
  const Digest& digest() const { return digest_; }
  size_t bytes() const {
    return next_.size() * sizeof(int32_t) + flags_.size() * 3 + sizeof(*this);
  }

 private:
  void Complete();

  std::array<uint8_t, 256> class_of_{};
  size_t num_classes_ = 0;
  std::vector<int32_t> next_;  // [states, classes]
  std::vector<uint8_t> flags_;
  std::vector<uint16_t> fan_out_;
  int32_t free_state_ = kDead;
  bool too_large_ = false;
  Digest digest_;
};

}  // namespace penstock::grammar
