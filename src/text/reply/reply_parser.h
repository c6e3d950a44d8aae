// A model's reply, as its text comes, into reasoning, content and calls of functions. Any split of
// the text gives the same; what is no call is content, and nothing is lost but markers and the white
// space around them.
// Owns text that may still become a marker or a call. Must not know tokens or the wire.
// Threads: confined to its stream.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/reply/call_reader.h"
#include "text/reply/harmony_parser.h"
#include "text/reply/json_scanner.h"
#include "text/reply/reply_format.h"

namespace penstock {

class ReplyParser {
 public:
  /// `in_reasoning`: the prompt began it already. format.calls: null where calls are not asked for.
  /// `types`: of functions whose calls are written as XML; null: values that are JSON are taken so.
  /// `one_call`: the reply is over behind its first. `whole`: a call is handed out once its
  /// arguments are whole, and one that breaks off is content; else in pieces.
  ReplyParser(const ReplyFormat& format, bool in_reasoning,
              std::shared_ptr<const ArgumentKinds> types = nullptr, bool one_call = false,
              bool whole = false);

  /// Appends what became known.
  void Append(std::string_view text, std::vector<ReplyPiece>& out);
  /// The end of the reply: what was held back. `cut`: for want of tokens, so the open call is handed
  /// out as far as it came.
  void Finish(bool cut, std::vector<ReplyPiece>& out);
  /// Blocks that looked like calls and were none.
  int32_t num_failed() const { return harmony_ ? harmony_->num_failed() : num_failed_; }
  /// Of num_calls(): those handed out whose arguments the model broke off.
  int32_t num_broken() const { return harmony_ ? harmony_->num_broken() : num_broken_; }
  bool in_reasoning() const {
    return harmony_ ? harmony_->in_reasoning() : state_ == State::kReasoning;
  }
  int32_t num_calls() const { return harmony_ ? harmony_->num_calls() : num_calls_; }
  /// What still comes is not wanted.
  bool over() const { return harmony_ ? harmony_->over() : state_ == State::kOver; }

 private:
  enum class State : uint8_t {
    kHead,       // white space so far: reasoning or a bare call may begin
    kRecipient,  // of kNameLine: a line that says whom the text is for
    kReasoning,
    kContent,
    kCall,
    kObject,     // that turned out to be no call: marks in its strings are none
    kAfterCall,  // its end marker may follow
    kOver,
  };

  void Advance(std::vector<ReplyPiece>& out);
  // Each of these returns false where it needs more text.
  bool ReadHead();
  bool ReadRecipient(std::vector<ReplyPiece>& out);
  /// Takes the marker that reasoning begins with; unknown where it may still come.
  std::optional<bool> BeginReasoning(size_t at);
  bool ReadText(std::vector<ReplyPiece>& out);
  bool ReadCall(std::vector<ReplyPiece>& out);
  bool ReadObject(std::vector<ReplyPiece>& out);
  bool SkipEnd();

  void TakeMarker(std::string_view marker);
  void BeginCall(std::string_view marker);
  void SettleCall(bool cut, std::vector<ReplyPiece>& out);
  void FailCall(std::vector<ReplyPiece>& out);
  void Emit(std::string_view text, std::vector<ReplyPiece>& out);

  const ReplyFormat format_;
  const std::shared_ptr<const ArgumentKinds> types_;
  const bool one_call_, whole_;
  std::vector<std::string_view> reasoning_markers_, content_markers_;  // of those states
  State state_ = State::kHead;
  std::string text_;          // not yet understood
  std::string space_;         // leaves if text follows that is no marker; may hold answers' ends
  bool trims_ = false;        // a marker came last: white space is dropped
  bool has_content_ = false;  // more than white space
  bool has_reasoned_ = false;
  bool answer_open_ = false;  // its begin was left out, so is an end that nothing follows
  size_t answer_end_ = std::string::npos;  // where space_ holds it
  std::optional<CallReader> reader_;
  JsonScanner object_;                    // of kObject
  std::optional<HarmonyParser> harmony_;  // reads all, where it is there
  std::string_view marker_;   // that the block began with; empty: none, or a call was handed out
  std::string before_;        // white space before it
  std::string raw_;           // of the block, from what was last handed out on
  size_t num_collected_ = 0;  // bytes of raw_ that the reader has as pieces of a call
  int32_t num_calls_ = 0;
  int32_t num_failed_ = 0;
  int32_t num_broken_ = 0;
};

}  // namespace penstock
