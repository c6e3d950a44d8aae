#include "bench/answer_reader.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace penstock {

/// Takes the few values that matter without building a tree.
class AnswerReader::Sax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Sax(AnswerReader* reader) : reader_(*reader) {}
  bool has_text() const { return has_text_; }

  bool key(string_t& name) override {
    key_ = name;
    if (depth_ == 1 && name == "choices") reader_.choices_ = true;
    return true;
  }
  bool string(string_t& value) override {
    if (value.empty()) return true;
    const bool shown = key_ == "text" || key_ == "content";
    if (shown || key_ == "reasoning_content" || key_ == "reasoning" || key_ == "arguments") {
      has_text_ = true;
      if (shown) reader_.text_ += value;
    }
    if (depth_ == 1 && key_ == "error") reader_.error_ = true;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    return number_integer(static_cast<number_integer_t>(value));
  }
  bool number_integer(number_integer_t value) override {
    if (key_ == "prompt_tokens") reader_.prompt_tokens_ = value;
    if (key_ == "completion_tokens") reader_.completion_tokens_ = value;
    if (key_ == "cached_tokens") reader_.cached_tokens_ = value;
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ == 1 && key_ == "error") reader_.error_ = true;
    ++depth_;
    return true;
  }
  bool end_object() override { return --depth_, true; }
  bool start_array(size_t) override { return ++depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  AnswerReader& reader_;
  std::string key_;
  int depth_ = 0;
  bool has_text_ = false;
};

bool AnswerReader::ReadJson(std::string_view json) {
  Sax sax(this);
  if (!nlohmann::json::sax_parse(json, &sax)) bad_json_ = true;
  if (sax.has_text()) ++num_texts_;
  return sax.has_text();
}

int AnswerReader::Read(std::string_view body, bool whole) {
  if (!stream_) {
    if (!whole) return 0;
    ReadJson(body);
    return 1;
  }
  int pieces = 0;
  for (size_t end; (end = body.find('\n', taken_)) != body.npos; taken_ = end + 1) {
    std::string_view line = body.substr(taken_, end - taken_);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("data:")) continue;  // empty lines, comments, names of events
    line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
    if (line == "[DONE]") {
      done_ = true;
    } else {
      pieces += ReadJson(line) ? 1 : 0;
    }
  }
  return pieces;
}

std::string AnswerReader::Fault(int status) const {
  if (status != 200) return absl::StrCat("http_", status);
  if (bad_json_) return "bad_json";
  if (error_) return "error_event";
  if (stream_ && !done_) return "no_done";
  if (!choices_) return "empty";
  if (completion_tokens_ < 0 || prompt_tokens_ < 0) return "no_usage";
  if (completion_tokens_ > max_tokens_ || (exact_ && completion_tokens_ != max_tokens_))
    return "wrong_length";
  if (num_texts_ > completion_tokens_) return "wrong_usage";
  return "";
}

}  // namespace penstock
