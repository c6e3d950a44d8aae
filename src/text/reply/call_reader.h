// Reads the calls of one block of a model's reply, as its bytes come.
// Owns what is not yet known to be a call. Must not know markers around the block, or the wire.
// Threads: confined to its stream.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/reply/json_scanner.h"
#include "text/reply/python_call_reader.h"
#include "text/reply/xml_call_reader.h"

namespace penstock {

/// A piece of a reply; those of one kind that follow each other are one text.
struct ReplyPiece {
  enum Kind : uint8_t { kContent, kReasoning, kCall, kArguments };
  Kind kind = kContent;
  std::string text;  // kCall: the function's name, whole; kArguments: a part of a JSON object
  int32_t call = 0;  // which one, of kCall and kArguments
};

/// How calls are written within their block.
enum class CallBody : uint8_t {
  kObject,    // {"name": "f", "arguments": {...}} or "tool_name" and "parameters"
  kArray,     // of such objects
  kFenced,    // such an array between ```json and ```
  kDeepSeek,  // function<sep>f\n```json\n{...}, or f<sep>{...}
  kMistral,   // an array of objects, or f[ARGS]{...}, or f{...}
  kKimi,      // functions.f:0<argument marker>{...}
  kQwenXml,   // <function=f><parameter=a>1</parameter></function>
  kGlmXml,    // f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>
  kPython,    // [f(a=1), g()]
  kNameLine,  // f, a line's end, {...}
  kNameTag,   // f>{...}
  kHarmony,   // harmony_parser.h reads it
};

/// Values are text, whose types only the function's schema knows.
constexpr bool WritesXml(CallBody body) {
  return body == CallBody::kQwenXml || body == CallBody::kGlmXml;
}

inline constexpr std::string_view kDeepSeekSeparator = "<｜tool▁sep｜>";
inline constexpr std::string_view kKimiSeparator = "<|tool_call_argument_begin|>";

class CallReader {
 public:
  enum class Result : uint8_t { kMore, kDone, kBad };

  /// Calls are numbered from `first_call` on. `types`: of what XML writes as text. `one_call`: the
  /// block ends behind its first. `whole`: a call is handed out once its
  /// arguments are whole; else in pieces.
  CallReader(CallBody body, int32_t first_call, std::shared_ptr<const ArgumentKinds> types,
             bool one_call, bool whole);

  /// Appends what became known by c. kDone: the block's calls are complete with c. kBad: c continues
  /// no call; nothing may follow.
  Result Next(char c, std::vector<ReplyPiece>& out);
  int32_t num_calls() const { return num_calls_; }  // handed out, those before the block included
  /// The last byte completed a piece, or a call: nothing up to it is open.
  bool settled() const { return settled_; }
  /// Nothing follows, for want of tokens: of a call that waits to be whole what there is.
  void HandOutOpen(std::vector<ReplyPiece>& out);
  /// It completed a piece that waits for the rest of its call.
  bool collected() const { return collected_; }
  /// After kBad: the object that c stands in, where it is JSON up to there and only no call; else null.
  const JsonScanner* object() const {
    return json_result_ == JsonScanner::Result::kBad ? nullptr : &json_;
  }
  /// After kBad: it is nested deeper than is followed.
  bool too_deep() const { return object() == nullptr && json_.depth() == JsonScanner::kMaxDepth; }
  /// A call was handed out whose arguments are not whole.
  bool broken() const { return announced_ && arguments_open_; }

 private:
  enum class Form : uint8_t { kStart, kInArray, kAfterItem, kObject, kHeader, kArguments };

  Result ReadOne(char c, std::vector<ReplyPiece>& out);
  Result InXml(char c, std::vector<ReplyPiece>& out);
  Result InPython(char c, std::vector<ReplyPiece>& out);
  void TakeArgument(const std::string& member, std::vector<ReplyPiece>& out);
  Result CloseArguments(std::vector<ReplyPiece>& out);
  Result InObject(char c, std::vector<ReplyPiece>& out);
  Result InHeader(char c, std::vector<ReplyPiece>& out);
  bool EndMember();
  void StartObject();
  void HandOut(std::vector<ReplyPiece>& out);

  CallBody body_;
  Form form_ = Form::kStart;
  bool in_array_ = false;
  const bool one_call_, whole_;
  int32_t num_calls_;
  JsonScanner json_;
  JsonScanner::Result json_result_ = JsonScanner::Result::kBad;  // of an object's last byte
  std::string header_;
  std::string key_, value_;       // of the open member, as written
  std::string name_, arguments_;  // arguments not yet handed out
  bool has_arguments_ = false;
  bool streams_ = false;        // the open member is the arguments
  bool arguments_open_ = true;  // they are not whole
  std::optional<XmlCallReader> xml_;
  PythonCallReader python_;
  bool settled_ = false, collected_ = false;
  bool announced_ = false;  // the open call
};

}  // namespace penstock
