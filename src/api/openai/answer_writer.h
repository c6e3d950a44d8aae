// Deltas of one call -> the JSON of /v1/completions and /v1/chat/completions, as stream events or
// as one body.
// Owns the bytes that all events of a stream share, and text offsets. Must not know sockets.
// Threads: confined to its call.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "penstock/service.h"

namespace penstock {

/// How a client wants its answer.
struct AnswerShape {
  bool chat = false;
  bool stream = false;
  bool logprobs = false;
  int64_t num_logprobs = 0;       // most likely tokens beside the drawn one
  bool echo = false;              // the prompt's log-probabilities go before the output's
  int64_t prompt_logprobs = -1;   // most likely tokens beside each of the prompt; -1: none
  bool include_usage = false;     // a last event with the usage
  bool continuous_usage = false;  // the usage so far in each event
  bool return_token_ids = false;
  bool skip_special = true;  // special tokens have no place in the text
};

class AnswerWriter {
 public:
  AnswerWriter(AnswerShape shape, ResponseStart start);

  /// One event: "data: {...}\n\n".
  void AppendEvent(std::string& out, const Delta& delta);
  void AppendUsageEvent(std::string& out, const UsageTotals& usage) const;
  /// The whole body of an answer that does not stream; one delta per choice, with all of its text.
  std::string Body(const std::vector<Delta>& choices, const UsageTotals& usage);

  const AnswerShape& shape() const { return shape_; }

 private:
  void AppendCommon(std::string& out, std::string_view object) const;
  void AppendChoice(std::string& out, const Delta& delta);
  void AppendMessage(std::string& out, const Delta& delta, bool first);
  void AppendTokenIds(std::string& out, const Delta& delta, bool first) const;
  void AppendChatLogprobs(std::string& out, const Delta& delta) const;
  void AppendLogprobs(std::string& out, const Delta& delta);
  void AppendPromptLogprobs(std::string& out, const Delta& delta) const;
  void AppendChatToken(std::string& out, TokenId id, float logprob) const;
  std::string TokenText(TokenId id) const;

  const AnswerShape shape_;
  const ResponseStart start_;
  std::string prefix_;                      // of each event, up to the choices
  bool warned_ = false;                     // of the request: with the first event
  std::vector<bool> begun_;                 // per choice: its first delta is out
  std::vector<int64_t> text_offset_;        // per choice, in code points
  std::vector<int64_t> completion_tokens_;  // per choice, so far
};

void AppendUsage(std::string& out, const UsageTotals& usage);

}  // namespace penstock
