// A reply in the Harmony format of gpt-oss: messages with headers that say their channel and whom
// they are for. analysis is reasoning, what is for a function is its call, all else content.
// Owns text that may still become a header or a call. Must not know tokens or the wire.
// Threads: confined to its stream.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/reply/call_reader.h"
#include "text/reply/json_scanner.h"

namespace penstock {

inline constexpr std::array<std::string_view, 7> kHarmonyMarkers = {
    "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>",
    "<|end|>",   "<|call|>",    "<|return|>"};

class HarmonyParser {
 public:
  /// The first header has begun: the prompt ended with the assistant's role. `in_reasoning`: so has
  /// its reasoning. `calls`: those of functions are kept apart. `one_call`: the reply is over behind
  /// its first. `whole`: a call is handed out once its arguments are whole.
  HarmonyParser(bool in_reasoning, bool calls, bool one_call, bool whole);

  void Append(std::string_view text, std::vector<ReplyPiece>& out);
  /// `cut`: for want of tokens.
  void Finish(bool cut, std::vector<ReplyPiece>& out);
  int32_t num_calls() const { return num_calls_; }
  int32_t num_failed() const { return num_failed_; }
  int32_t num_broken() const { return num_broken_; }
  bool in_reasoning() const { return state_ == State::kBody && kind_ == ReplyPiece::kReasoning; }
  bool over() const { return state_ == State::kOver; }

 private:
  enum class State : uint8_t { kHeader, kBody, kCall, kAfterCall, kBetween, kOver };

  void Advance(std::vector<ReplyPiece>& out);
  // Each of these returns false where it needs more text.
  bool ReadHeader(std::vector<ReplyPiece>& out);
  bool ReadBody(std::vector<ReplyPiece>& out);
  bool ReadCall(std::vector<ReplyPiece>& out);
  /// White space, and the marker that begins the next header.
  bool SkipToHeader();

  void OpenBody(ReplyPiece::Kind kind);
  void HandOut(std::string_view arguments, std::vector<ReplyPiece>& out);
  void Emit(std::string_view text, std::vector<ReplyPiece>& out);

  const bool calls_, one_call_, whole_;
  State state_ = State::kHeader;
  ReplyPiece::Kind kind_ = ReplyPiece::kContent;  // of the body
  std::string text_;                              // not yet understood
  std::string header_;                            // of the open call, with its markers
  std::string name_, raw_;                        // of the open call; raw: nothing handed out yet
  std::string start_;                             // the marker before the open header
  JsonScanner json_;
  bool begun_ = false, announced_ = false;  // the open call
  bool has_content_ = false, has_reasoning_ = false;
  bool breaks_ = false;  // another message of the kind came before: a line's end goes between
  int32_t num_calls_ = 0, num_failed_ = 0, num_broken_ = 0;
};

}  // namespace penstock
