// Reads one call that is written as XML-like marks: <function=f><parameter=a>1</parameter></function>,
// or f<arg_key>a</arg_key><arg_value>1</arg_value>. Its arguments become JSON by the types that the
// function's schema gives them.
// Owns the open part. Must not know markers around the call, or the wire.
// Threads: confined to its stream.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/reply/argument_kind.h"
#include "text/reply/json_scanner.h"

namespace penstock {

/// Each mark ends where the next begins, white space aside.
struct XmlCallMarks {
  std::string_view name_begin;  // empty: the call begins with its name
  std::string_view name_end;    // empty: a line's end or the next mark
  std::string_view key_begin;
  std::string_view key_end;
  std::string_view value_begin;  // empty: the value follows the key
  std::string_view value_end;
  std::string_view call_end;
};

class XmlCallReader {
 public:
  XmlCallReader(const XmlCallMarks& marks, std::shared_ptr<const ArgumentKinds> types)
      : marks_(marks), types_(std::move(types)) {}

  enum class Event : uint8_t {
    kNone,
    kName,      // taken()
    kArgument,  // taken(): "key": value, as JSON
    kDone,
    kBad,
  };
  /// What c completes.
  Event Next(char c);
  const std::string& taken() const { return taken_; }

 private:
  enum class State : uint8_t { kNameBegin, kName, kBetween, kKey, kValueBegin, kValue };

  Event EndName();
  void BeginValue();
  /// Whether c lies in a string of a JSON value, where no mark ends it.
  bool InJsonText(char c);
  Event EndValue();
  /// Whether text_ has become `mark`; false with `bad` where it cannot.
  bool Is(std::string_view mark, bool& bad);

  const XmlCallMarks& marks_;
  std::shared_ptr<const ArgumentKinds> types_;
  State state_ = State::kNameBegin;
  std::string text_;  // of the state
  std::string name_, key_, taken_;
  ArgumentKind kind_ = ArgumentKind::kJson;  // of the open value
  std::optional<JsonScanner> json_;          // of the open value, as long as it may be JSON
  bool begun_ = false;                       // the open value: more than white space
};

}  // namespace penstock
