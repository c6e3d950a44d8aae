// Reads one call that is written as Python writes it: f(a=1, b="x", c=[True, None]). Its arguments
// become JSON.
// Owns the open part. Must not know what stands around the call, or the wire.
// Threads: confined to its stream.
#pragma once

#include <string>
#include <string_view>

namespace penstock {

class PythonCallReader {
 public:
  enum class Event : uint8_t {
    kNone,
    kName,          // taken()
    kArgument,      // taken(): "key": value, as JSON
    kLastArgument,  // the same, and the call is complete
    kDone,
    kBad,
  };
  /// What c completes.
  Event Next(char c);
  const std::string& taken() const { return taken_; }

 private:
  enum class State : uint8_t { kName, kKey, kValue };

  Event InValue(char c);
  bool EndValue();

  State state_ = State::kName;
  std::string text_;  // of the state
  std::string key_, taken_;
  int depth_ = 0;         // of open brackets in a value
  char quote_ = '\0';     // of the open string in a value
  bool escaped_ = false;  // a backslash came last
};

/// A literal of Python, or of JSON, as JSON; false where it is none.
bool PythonLiteralToJson(std::string_view literal, std::string& json);

}  // namespace penstock
