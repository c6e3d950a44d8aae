#include "text/reply/reply_parser.h"

#include <algorithm>
#include <utility>

#include "text/reply/function_name.h"

namespace penstock {
namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n";

size_t FirstNotOf(std::string_view text, std::string_view what) {
  return std::min(text.find_first_not_of(what), text.size());
}

/// Whether an object's first member says which function it calls; unknown as far as it came.
std::optional<bool> NamesFirst(std::string_view object) {
  const std::string_view key = object.substr(1 + FirstNotOf(object.substr(1), kWhiteSpace));
  for (const std::string_view name : {"\"name\"", "\"tool_name\""}) {
    if (key.starts_with(name)) return true;
    if (name.starts_with(key)) return std::nullopt;
  }
  return false;
}

/// From here on `text` may be the begin of one of `markers`.
size_t MarkerMayBeginAt(std::string_view text, const std::vector<std::string_view>& markers) {
  size_t held = 0;
  for (const std::string_view marker : markers) {
    for (size_t n = std::min(marker.size() - 1, text.size()); n > held; --n) {
      if (text.ends_with(marker.substr(0, n))) held = n;
    }
  }
  return text.size() - held;
}

}  // namespace

ReplyParser::ReplyParser(const ReplyFormat& format, bool in_reasoning,
                         std::shared_ptr<const ArgumentKinds> types, bool one_call, bool whole)
    : format_(format), types_(std::move(types)), one_call_(one_call), whole_(whole) {
  if (format.reasoning != nullptr) reasoning_markers_ = {format.reasoning->end};
  if (format.calls != nullptr) {
    if (!format.calls->begin.empty()) content_markers_.push_back(format.calls->begin);
    for (const std::string_view marker : format.calls->ignored) {
      if (!marker.empty()) content_markers_.push_back(marker);
    }
    if (format.calls->body == CallBody::kNameLine) state_ = State::kRecipient;
  }
  if (IsHarmony(format)) harmony_.emplace(in_reasoning, format.calls != nullptr, one_call, whole);
  if (!in_reasoning) return;
  state_ = State::kReasoning;
  trims_ = has_reasoned_ = true;
}

void ReplyParser::Append(std::string_view text, std::vector<ReplyPiece>& out) {
  if (harmony_) return harmony_->Append(text, out);
  text_ += text;
  Advance(out);
}

void ReplyParser::Advance(std::vector<ReplyPiece>& out) {
  bool moves = true;
  while (moves) {
    switch (state_) {
      case State::kHead:
        moves = ReadHead();
        break;
      case State::kRecipient:
        moves = ReadRecipient(out);
        break;
      case State::kReasoning:
      case State::kContent:
        moves = ReadText(out);
        break;
      case State::kCall:
        moves = ReadCall(out);
        break;
      case State::kObject:
        moves = ReadObject(out);
        break;
      case State::kAfterCall:
        moves = SkipEnd();
        break;
      case State::kOver:
        text_.clear();
        return;
    }
  }
}

std::optional<bool> ReplyParser::BeginReasoning(size_t at) {
  if (format_.reasoning == nullptr || has_reasoned_ || num_calls_ > 0) return false;
  const std::string_view rest = std::string_view(text_).substr(at);
  const std::string_view marker = format_.reasoning->begin;
  if (!rest.starts_with(marker)) {
    if (marker.starts_with(rest)) return std::nullopt;
    return false;
  }
  text_.erase(0, at + marker.size());
  state_ = State::kReasoning;
  trims_ = has_reasoned_ = true;
  return true;
}

bool ReplyParser::ReadHead() {
  const bool bare = format_.calls != nullptr && format_.calls->bare;
  const std::string_view skipped = bare && num_calls_ > 0 ? " \t\r\n;" : kWhiteSpace;
  const size_t begin = FirstNotOf(text_, skipped);
  const std::string_view rest = std::string_view(text_).substr(begin);
  if (rest.empty()) return false;
  if (const std::optional<bool> began = BeginReasoning(begin); began != false)
    return began.has_value();
  if (format_.reasoning != nullptr && has_reasoned_ && !answer_open_ && num_calls_ == 0) {
    const std::string_view marker = format_.reasoning->answer_begin;
    if (!marker.empty() && rest.starts_with(marker)) {
      text_.erase(0, begin + marker.size());
      content_markers_.push_back(format_.reasoning->answer_end);
      answer_open_ = true;
      return true;
    }
    if (marker.starts_with(rest)) return false;
  }
  if (bare && rest[0] == (format_.calls->body == CallBody::kPython ? '[' : '{')) {
    if (format_.apart && rest[0] == '{') {
      const std::optional<bool> names = NamesFirst(rest);
      if (!names) return false;
      if (!*names) {
        state_ = State::kContent;
        return true;
      }
    }
    text_.erase(0, begin);
    BeginCall("");
    return true;
  }
  state_ = State::kContent;
  return true;
}

bool ReplyParser::ReadRecipient(std::vector<ReplyPiece>& out) {
  constexpr size_t kMostLine = 130;
  if (trims_ && marker_.empty())
    text_.erase(0, FirstNotOf(text_, kWhiteSpace));  // behind reasoning
  if (marker_.empty()) {
    const std::optional<bool> began = BeginReasoning(FirstNotOf(text_, kWhiteSpace));
    if (began != false) return began.has_value();
  }
  size_t end = text_.find('\n');
  if (end != std::string::npos && end > kMostLine) end = std::string::npos;
  if (end == std::string::npos && text_.size() <= kMostLine) return false;
  const std::string_view line = TrimmedText(std::string_view(text_).substr(0, end));
  if (end != std::string::npos && line == "all") {
    text_.erase(0, end + 1);
    marker_ = "";
    trims_ = true;
    state_ = State::kContent;
  } else if (end != std::string::npos && IsFunctionName(line)) {
    BeginCall(marker_);
  } else {
    state_ = State::kContent;
    trims_ = false;
    if (!marker_.empty()) space_ = std::exchange(before_, "");
    Emit(std::exchange(marker_, ""), out);
  }
  return true;
}

bool ReplyParser::ReadText(std::vector<ReplyPiece>& out) {
  const std::vector<std::string_view>& markers =
      state_ == State::kReasoning ? reasoning_markers_ : content_markers_;
  size_t at = std::string::npos;
  std::string_view found;
  for (const std::string_view marker : markers) {
    const size_t here = text_.find(marker);
    if (here >= at) continue;
    at = here;
    found = marker;
  }
  if (found.empty()) at = MarkerMayBeginAt(text_, markers);
  const size_t num_markers = content_markers_.size();
  Emit(std::string_view(text_).substr(0, at), out);
  if (content_markers_.size() != num_markers) {  // content that began here knows fewer
    text_.erase(0, at);
    return true;
  }
  text_.erase(0, at + found.size());
  if (found.empty()) return false;
  TakeMarker(found);
  return true;
}

void ReplyParser::TakeMarker(std::string_view marker) {
  if (state_ == State::kContent && answer_open_ && marker == format_.reasoning->answer_end) {
    answer_end_ = space_.size();
    space_ += marker;
    trims_ = false;
    return;
  }
  answer_end_ = std::string::npos;
  before_ = std::exchange(space_, "");
  trims_ = true;
  if (state_ == State::kReasoning) {
    const bool lines = format_.calls != nullptr && format_.calls->body == CallBody::kNameLine;
    state_ = lines ? State::kRecipient : State::kHead;
  } else if (marker == format_.calls->begin) {
    BeginCall(marker);
    if (format_.calls->body == CallBody::kNameLine) state_ = State::kRecipient;
  }
}

void ReplyParser::BeginCall(std::string_view marker) {
  state_ = State::kCall;
  marker_ = marker;
  raw_.clear();
  num_collected_ = 0;
  reader_.emplace(format_.calls->body, num_calls_, types_, one_call_, whole_);
}

bool ReplyParser::ReadCall(std::vector<ReplyPiece>& out) {
  for (size_t i = 0; i < text_.size(); ++i) {
    const CallReader::Result result = reader_->Next(text_[i], out);
    raw_ += text_[i];
    if (reader_->settled()) {
      raw_.clear();
      num_collected_ = 0;
      marker_ = "";
    } else if (reader_->collected()) {
      num_collected_ = raw_.size();
    }
    num_calls_ = reader_->num_calls();
    if (result == CallReader::Result::kMore) continue;
    text_.erase(0, i + 1);
    if (result == CallReader::Result::kBad) {
      const bool bare = marker_.empty() && format_.calls->bare;
      const JsonScanner* object = bare ? reader_->object() : nullptr;
      if (bare && object == nullptr && !raw_.empty()) {  // only what came before is its text
        text_.insert(0, 1, raw_.back());
        raw_.pop_back();
      }
      if (bare && reader_->too_deep()) content_markers_.clear();  // nobody knows where it ends
      FailCall(out);
      if (object != nullptr && object->depth() > 0) {
        object_ = *object;
        state_ = State::kObject;
      }
    } else {
      state_ = State::kAfterCall;
      trims_ = true;
    }
    return true;
  }
  text_.clear();
  return false;
}

void ReplyParser::FailCall(std::vector<ReplyPiece>& out) {
  ++num_failed_;
  num_broken_ += reader_->broken() ? 1 : 0;
  state_ = State::kContent;
  trims_ = false;
  if (marker_.empty() && format_.calls->bare) {  // marks in it are text of its strings
    Emit(std::exchange(raw_, ""), out);
    return;
  }
  text_.insert(0, std::exchange(raw_, ""));
  if (!marker_.empty()) space_ = std::exchange(before_, "");
  Emit(std::exchange(marker_, ""), out);
}

bool ReplyParser::ReadObject(std::vector<ReplyPiece>& out) {
  for (size_t i = 0; i < text_.size(); ++i) {
    const JsonScanner::Result result = object_.Next(text_[i]);
    if (result == JsonScanner::Result::kMore) continue;
    const bool bad = result == JsonScanner::Result::kBad;
    if (bad && object_.depth() == JsonScanner::kMaxDepth) content_markers_.clear();
    const size_t size = bad ? i : i + 1;
    state_ = State::kContent;
    Emit(std::string_view(text_).substr(0, size), out);
    text_.erase(0, size);
    return true;
  }
  Emit(text_, out);
  text_.clear();
  return false;
}

// Where the reply ends within it.
void ReplyParser::SettleCall(bool cut, std::vector<ReplyPiece>& out) {
  if (cut) {
    reader_->HandOutOpen(out);
    if (reader_->num_calls() > num_calls_) {
      raw_.erase(0, num_collected_);
      marker_ = "";
    }
    num_calls_ = reader_->num_calls();
  }
  if (!raw_.empty() || !marker_.empty() || !reader_->broken()) return;
  ++num_failed_;
  ++num_broken_;
}

bool ReplyParser::SkipEnd() {
  if (one_call_) {
    state_ = State::kOver;
    return true;
  }
  const std::string_view end = format_.calls->end;
  if (!end.empty()) {
    const std::string_view between = end.starts_with('`') ? kWhiteSpace : " \t\r\n`";
    const std::string_view rest = std::string_view(text_).substr(FirstNotOf(text_, between));
    if (rest.size() < end.size() && end.starts_with(rest)) return false;
    if (rest.starts_with(end)) text_ = std::string(rest.substr(end.size()));
  }
  state_ = format_.calls->bare && !has_content_ ? State::kHead : State::kContent;
  return true;
}

void ReplyParser::Finish(bool cut, std::vector<ReplyPiece>& out) {
  if (harmony_) return harmony_->Finish(cut, out);
  if (state_ == State::kCall) SettleCall(cut, out);
  while (state_ == State::kCall && !(raw_.empty() && marker_.empty())) {
    FailCall(out);
    Advance(out);
    if (state_ == State::kCall) SettleCall(cut, out);
  }
  if (over()) return;
  if (state_ == State::kRecipient && !(text_.empty() && marker_.empty())) {
    state_ = State::kContent;
    trims_ = false;
    if (!marker_.empty()) space_ = std::exchange(before_, "");
    Emit(std::exchange(marker_, ""), out);
  }
  if (state_ == State::kAfterCall) {  // a part of its end marker is dropped
    const std::string_view rest = std::string_view(text_).substr(FirstNotOf(text_, kWhiteSpace));
    if (format_.calls->end.starts_with(rest)) text_.clear();
  }
  if (state_ != State::kReasoning) state_ = State::kContent;
  Emit(std::exchange(text_, ""), out);
  if (answer_end_ != std::string::npos) {
    space_.resize(answer_end_);
    space_.resize(space_.find_last_not_of(kWhiteSpace) + 1);  // an end before this one is content
    if (!space_.empty()) out.push_back({ReplyPiece::kContent, std::exchange(space_, "")});
  }
  if (!space_.empty() && num_calls_ == 0) {
    const auto kind = state_ == State::kReasoning ? ReplyPiece::kReasoning : ReplyPiece::kContent;
    out.push_back({kind, std::exchange(space_, "")});
  }
}

void ReplyParser::Emit(std::string_view text, std::vector<ReplyPiece>& out) {
  if (trims_) text.remove_prefix(FirstNotOf(text, kWhiteSpace));
  if (text.empty()) return;
  trims_ = false;
  const size_t last = text.find_last_not_of(kWhiteSpace);
  const size_t size = last == std::string_view::npos ? 0 : last + 1;
  if (size > 0) {
    const auto kind = state_ == State::kReasoning ? ReplyPiece::kReasoning : ReplyPiece::kContent;
    if (out.empty() || out.back().kind != kind) out.push_back({kind, ""});
    out.back().text += std::exchange(space_, "");
    out.back().text += text.substr(0, size);
    answer_end_ = std::string::npos;
    has_content_ |= state_ == State::kContent;
    if (has_content_ && format_.apart && format_.calls != nullptr)
      std::erase(content_markers_, format_.calls->begin);
  }
  space_ += text.substr(size);
}

}  // namespace penstock
