// Checks one JSON value as its bytes come, and says what each byte is.
// Owns the kinds of what is open. Must not know calls, models or the wire.
// Threads: confined to its stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace penstock {

class JsonScanner {
 public:
  enum class Result : uint8_t {
    kMore,
    kDone,
    kBad
  };  // kDone: an object, an array or a string ended
  enum class Role : uint8_t { kSpace, kPunctuation, kKey, kValue };

  /// After kDone or kBad nothing may follow. At most kMaxDepth containers are open at once.
  Result Next(char c);
  /// Of the last byte: quotes belong to keys and strings, the brackets of a container to what it is.
  bool in_string() const {
    return state_ == State::kString || state_ == State::kEscape || state_ == State::kHex;
  }
  Role role() const { return role_; }
  /// Open containers.
  size_t depth() const { return open_.size(); }

  static constexpr size_t kMaxDepth = 128;

 private:
  enum class State : uint8_t {
    kValue,       // expected
    kFirstItem,   // or the end of the array
    kFirstKey,    // or the end of the object
    kKey,         // expected
    kColon,       // expected
    kAfterValue,  // a comma or an end
    kString,
    kEscape,
    kHex,
    kLiteral,
    kMinus,
    kZero,
    kDigits,
    kPoint,
    kFraction,
    kE,
    kESign,
    kExponent,
    kOver,
  };
  Result StartValue(char c);
  Result InString(char c);
  Result InNumber(char c);
  Result AfterValue(char c);
  Result EndValue();
  Result Close(char bracket);
  Result Open(char bracket, State next);
  Result Move(State next) {
    state_ = next;
    return Result::kMore;
  }

  State state_ = State::kValue;
  Role role_ = Role::kSpace;
  std::string open_;       // '{' or '[' each
  const char* left_ = "";  // of a literal
  int hex_left_ = 0;
  bool is_key_ = false;  // the string
};

}  // namespace penstock
