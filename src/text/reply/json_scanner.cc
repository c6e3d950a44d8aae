#include "text/reply/json_scanner.h"

namespace penstock {
namespace {

bool IsJsonSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsJsonDigit(char c) { return c >= '0' && c <= '9'; }
bool IsJsonHex(char c) {
  return IsJsonDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

}  // namespace

JsonScanner::Result JsonScanner::Next(char c) {
  switch (state_) {
    case State::kString:
    case State::kEscape:
    case State::kHex:
      return InString(c);
    case State::kLiteral:
      role_ = Role::kValue;
      if (*left_ != c) return Result::kBad;
      return *++left_ == '\0' ? EndValue() : Result::kMore;
    case State::kMinus:
    case State::kZero:
    case State::kDigits:
    case State::kPoint:
    case State::kFraction:
    case State::kE:
    case State::kESign:
    case State::kExponent:
      return InNumber(c);
    case State::kOver:
      return Result::kBad;
    default:
      break;
  }
  if (IsJsonSpace(c)) {
    role_ = Role::kSpace;
    return Result::kMore;
  }
  role_ = Role::kPunctuation;
  switch (state_) {
    case State::kFirstItem:
      if (c == ']') return Close('[');
      return StartValue(c);
    case State::kFirstKey:
      if (c == '}') return Close('{');
      [[fallthrough]];
    case State::kKey:
      if (c != '"') return Result::kBad;
      role_ = Role::kKey;
      is_key_ = true;
      return Move(State::kString);
    case State::kColon:
      return c == ':' ? Move(State::kValue) : Result::kBad;
    case State::kAfterValue:
      return AfterValue(c);
    default:
      return StartValue(c);
  }
}

JsonScanner::Result JsonScanner::StartValue(char c) {
  role_ = Role::kValue;
  if (c == '{') return Open('{', State::kFirstKey);
  if (c == '[') return Open('[', State::kFirstItem);
  if (c == '"') {
    is_key_ = false;
    return Move(State::kString);
  }
  if (open_.empty()) return Result::kBad;  // where a number or a literal ends, nothing would say
  if (c == '-') return Move(State::kMinus);
  if (c == '0') return Move(State::kZero);
  if (IsJsonDigit(c)) return Move(State::kDigits);
  left_ = c == 't' ? "rue" : c == 'f' ? "alse" : c == 'n' ? "ull" : nullptr;
  return left_ == nullptr ? Result::kBad : Move(State::kLiteral);
}

JsonScanner::Result JsonScanner::InString(char c) {
  role_ = is_key_ ? Role::kKey : Role::kValue;
  if (state_ == State::kHex) {
    if (!IsJsonHex(c)) return Result::kBad;
    return --hex_left_ == 0 ? Move(State::kString) : Result::kMore;
  }
  if (state_ == State::kEscape) {
    hex_left_ = 4;
    if (c == 'u') return Move(State::kHex);
    return std::string("\"\\/bfnrt").find(c) == std::string::npos ? Result::kBad
                                                                  : Move(State::kString);
  }
  if (static_cast<unsigned char>(c) < 0x20) return Result::kBad;
  if (c == '\\') return Move(State::kEscape);
  if (c != '"') return Result::kMore;
  return is_key_ ? Move(State::kColon) : EndValue();
}

JsonScanner::Result JsonScanner::InNumber(char c) {
  role_ = Role::kValue;
  const bool digit = IsJsonDigit(c);
  const bool e = c == 'e' || c == 'E';
  switch (state_) {
    case State::kMinus:
      if (!digit) return Result::kBad;
      return Move(c == '0' ? State::kZero : State::kDigits);
    case State::kZero:
    case State::kDigits:
      if (digit) return state_ == State::kZero ? Result::kBad : Result::kMore;
      if (c == '.') return Move(State::kPoint);
      if (e) return Move(State::kE);
      break;
    case State::kPoint:
      return digit ? Move(State::kFraction) : Result::kBad;
    case State::kFraction:
      if (digit) return Result::kMore;
      if (e) return Move(State::kE);
      break;
    case State::kE:
      if (c == '+' || c == '-') return Move(State::kESign);
      [[fallthrough]];
    case State::kESign:
      return digit ? Move(State::kExponent) : Result::kBad;
    default:
      if (digit) return Result::kMore;
      break;
  }
  state_ = State::kAfterValue;  // c is what follows the number
  return Next(c);
}

JsonScanner::Result JsonScanner::AfterValue(char c) {
  if (c == ',') return Move(open_.back() == '{' ? State::kKey : State::kValue);
  if (c == '}' && open_.back() == '{') return Close('{');
  if (c == ']' && open_.back() == '[') return Close('[');
  return Result::kBad;
}

JsonScanner::Result JsonScanner::Open(char bracket, State next) {
  if (open_.size() == kMaxDepth) return Result::kBad;
  open_ += bracket;
  return Move(next);
}

JsonScanner::Result JsonScanner::Close(char bracket) {
  if (open_.back() != bracket) return Result::kBad;
  role_ = Role::kValue;
  open_.pop_back();
  return EndValue();
}

JsonScanner::Result JsonScanner::EndValue() {
  if (!open_.empty()) return Move(State::kAfterValue);
  state_ = State::kOver;
  return Result::kDone;
}

}  // namespace penstock
