// What an answer says, read as it arrives: pieces of text, usage, and what is wrong with it.
// Owns the text of the answer. Must not know sockets or clocks.
// Threads: confined to its owner.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

class AnswerReader {
 public:
  AnswerReader() = default;
  /// `max_tokens`: that the answer may have, and where it is `exact` has to have.
  AnswerReader(bool stream, int32_t max_tokens, bool exact)
      : stream_(stream), exact_(exact), max_tokens_(max_tokens) {}

  /// The body as far as it is here, which is more each time. The number of pieces of text that are
  /// new; of an answer in one, 1 when `whole`.
  int Read(std::string_view body, bool whole);
  /// What is wrong with an answer of which no more comes, as a label: http_503, bad_json,
  /// error_event, no_done, no_usage, wrong_length, wrong_usage (more pieces of text than tokens),
  /// empty; "" where nothing is.
  std::string Fault(int status) const;

  const std::string& text() const { return text_; }
  int64_t prompt_tokens() const { return prompt_tokens_; }  // -1: not told, as the others
  int64_t completion_tokens() const { return completion_tokens_; }
  int64_t cached_tokens() const { return cached_tokens_; }

 private:
  class Sax;
  bool ReadJson(std::string_view json);  // true: there is text in it

  bool stream_ = true, exact_ = false;
  int32_t max_tokens_ = 0;
  int64_t num_texts_ = 0;  // pieces with text in them, each of which holds a token at least
  size_t taken_ = 0;       // bytes of the body
  bool bad_json_ = false, error_ = false, done_ = false, choices_ = false;
  std::string text_;
  int64_t prompt_tokens_ = -1, completion_tokens_ = -1, cached_tokens_ = -1;
};

}  // namespace penstock
