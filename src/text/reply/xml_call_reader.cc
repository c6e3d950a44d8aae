#include "text/reply/xml_call_reader.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "text/reply/function_name.h"

namespace penstock {
namespace {

using JsonText = nlohmann::ordered_json;

/// A line's end that a model writes around a value is none of it.
std::string_view WithoutLineEnds(std::string_view text) {
  if (text.starts_with('\n')) text.remove_prefix(1);
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

std::string Quoted(std::string_view text) {
  return JsonText(text).dump(-1, ' ', false, JsonText::error_handler_t::replace);
}

/// What is no string by its schema is taken as JSON, where it is some.
std::string ValueAsJson(std::string_view written, ArgumentKind kind) {
  const std::string_view text = WithoutLineEnds(written);
  if (kind == ArgumentKind::kText) return Quoted(text);
  const std::string_view trimmed = TrimmedText(text);
  if (kind == ArgumentKind::kTextOrNull) return trimmed == "null" ? "null" : Quoted(text);
  if (trimmed == "True") return "true";
  if (trimmed == "False") return "false";
  if (trimmed == "None") return "null";
  const JsonText parsed = JsonText::parse(trimmed, nullptr, false);
  return parsed.is_discarded() ? Quoted(text) : std::string(trimmed);
}

}  // namespace

bool XmlCallReader::Is(std::string_view mark, bool& bad) {
  bad = !mark.starts_with(text_);
  return text_ == mark;
}

XmlCallReader::Event XmlCallReader::Next(char c) {
  constexpr size_t kMostName = 512;
  bool bad = false;
  text_ += c;
  switch (state_) {
    case State::kNameBegin:
      if (IsSpaceByte(c) && text_.size() == 1) {
        text_.clear();
        return Event::kNone;
      }
      if (marks_.name_begin.empty()) {
        state_ = State::kName;
        return Event::kNone;
      }
      if (Is(marks_.name_begin, bad)) {
        state_ = State::kName;
        text_.clear();
      }
      return bad ? Event::kBad : Event::kNone;
    case State::kName:
      if (text_.size() > kMostName) return Event::kBad;
      if (!marks_.name_end.empty()) {
        if (!text_.ends_with(marks_.name_end)) return Event::kNone;
        text_.resize(text_.size() - marks_.name_end.size());
        return EndName();
      }
      if (c != '\n' && c != '<') return Event::kNone;
      text_.pop_back();
      if (const Event event = EndName(); event != Event::kName) return event;
      if (c == '<') text_ = "<";
      return Event::kName;
    case State::kBetween: {
      if (IsSpaceByte(c) && text_.size() == 1) {
        text_.clear();
        return Event::kNone;
      }
      if (Is(marks_.call_end, bad)) return Event::kDone;
      const bool no_end = bad;
      if (Is(marks_.key_begin, bad)) {
        state_ = State::kKey;
        text_.clear();
      }
      return bad && no_end ? Event::kBad : Event::kNone;
    }
    case State::kKey:
      if (text_.size() > kMostName) return Event::kBad;
      if (!text_.ends_with(marks_.key_end)) return Event::kNone;
      text_.resize(text_.size() - marks_.key_end.size());
      key_ = std::string(TrimmedText(std::exchange(text_, "")));
      state_ = marks_.value_begin.empty() ? State::kValue : State::kValueBegin;
      BeginValue();
      return key_.empty() ? Event::kBad : Event::kNone;
    case State::kValueBegin:
      if (IsSpaceByte(c) && text_.size() == 1) {
        text_.clear();
        return Event::kNone;
      }
      if (Is(marks_.value_begin, bad)) {
        state_ = State::kValue;
        text_.clear();
      }
      return bad ? Event::kBad : Event::kNone;
    case State::kValue:
      if (InJsonText(c) || !text_.ends_with(marks_.value_end)) return Event::kNone;
      text_.resize(text_.size() - marks_.value_end.size());
      return EndValue();
  }
  return Event::kBad;
}

XmlCallReader::Event XmlCallReader::EndName() {
  name_ = taken_ = std::string(TrimmedText(std::exchange(text_, "")));
  state_ = State::kBetween;
  return IsFunctionName(name_) ? Event::kName : Event::kBad;
}

void XmlCallReader::BeginValue() {
  kind_ = ArgumentKind::kJson;
  begun_ = false;
  json_.reset();
  if (types_ == nullptr) return;
  const auto function = types_->find(name_);
  if (function == types_->end()) return;
  const auto parameter = function->second.find(key_);
  if (parameter != function->second.end()) kind_ = parameter->second;
}

bool XmlCallReader::InJsonText(char c) {
  if (kind_ != ArgumentKind::kJson || (begun_ && !json_)) return false;
  if (!begun_ && IsSpaceByte(c)) return false;
  if (!begun_ && (c == '{' || c == '[' || c == '"')) json_.emplace();
  begun_ = true;
  if (json_ && json_->Next(c) != JsonScanner::Result::kMore) json_.reset();
  return json_ && json_->in_string();
}

XmlCallReader::Event XmlCallReader::EndValue() {
  taken_ = absl::StrCat(Quoted(key_), ": ", ValueAsJson(std::exchange(text_, ""), kind_));
  state_ = State::kBetween;
  return Event::kArgument;
}

}  // namespace penstock
