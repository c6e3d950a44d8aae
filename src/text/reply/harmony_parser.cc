#include "text/reply/harmony_parser.h"

#include <algorithm>
#include <utility>

#include "text/reply/function_name.h"

namespace penstock {
namespace {

constexpr size_t kMostHarmonyHeader = 512;
constexpr std::string_view kHarmonyStart = "<|start|>", kHarmonyMessage = "<|message|>",
                           kHarmonyChannel = "<|channel|>";
constexpr std::array<std::string_view, 4> kBodyEnds = {"<|end|>", "<|call|>", "<|return|>",
                                                       kHarmonyStart};

/// What stands behind `key`, up to white space or a marker.
std::string_view WordBehind(std::string_view header, std::string_view key) {
  const size_t at = header.find(key);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = header.substr(at + key.size());
  return rest.substr(0, rest.find_first_of(" \t\r\n<"));
}

/// Whether `text` is, or may become, what a header begins with.
bool MayBeginHeader(std::string_view text, bool started) {
  for (const std::string_view begin : {kHarmonyChannel, kHarmonyMessage, std::string_view("to=")}) {
    if (text.starts_with(begin) || begin.starts_with(text)) return true;
  }
  constexpr std::string_view kRole = "assistant";
  if (!started || !text.starts_with(kRole)) return started && kRole.starts_with(text);
  const std::string_view rest = TrimmedText(text.substr(kRole.size()));
  return rest.empty() || MayBeginHeader(rest, false);
}

}  // namespace

HarmonyParser::HarmonyParser(bool in_reasoning, bool calls, bool one_call, bool whole)
    : calls_(calls), one_call_(one_call), whole_(whole) {
  if (in_reasoning) OpenBody(ReplyPiece::kReasoning);
}

void HarmonyParser::OpenBody(ReplyPiece::Kind kind) {
  state_ = State::kBody;
  kind_ = kind;
  breaks_ = kind == ReplyPiece::kReasoning ? has_reasoning_ : has_content_;
}

void HarmonyParser::Append(std::string_view text, std::vector<ReplyPiece>& out) {
  text_ += text;
  Advance(out);
}

void HarmonyParser::Advance(std::vector<ReplyPiece>& out) {
  bool moves = true;
  while (moves) {
    switch (state_) {
      case State::kHeader:
        moves = ReadHeader(out);
        break;
      case State::kBody:
        moves = ReadBody(out);
        break;
      case State::kCall:
        moves = ReadCall(out);
        break;
      case State::kAfterCall:
        state_ = one_call_ ? State::kOver : State::kBetween;
        break;
      case State::kBetween:
        moves = SkipToHeader();
        break;
      case State::kOver:
        text_.clear();
        return;
    }
  }
}

bool HarmonyParser::ReadHeader(std::vector<ReplyPiece>& out) {
  const size_t end = text_.find(kHarmonyMessage);
  if (end == std::string::npos) {
    const std::string_view seen = TrimmedText(text_);
    const bool may = seen.empty() || MayBeginHeader(seen, !start_.empty());
    if (may && text_.size() <= kMostHarmonyHeader) return false;
  } else if (end <= kMostHarmonyHeader && MayBeginHeader(TrimmedText(std::string_view(text_).substr(
                                                             0, end + kHarmonyMessage.size())),
                                                         !start_.empty())) {
    const std::string header = text_.substr(0, end);
    header_ = std::exchange(start_, "") + header + std::string(kHarmonyMessage);
    text_.erase(0, end + kHarmonyMessage.size());
    std::string_view to = WordBehind(header, "to=");
    constexpr std::string_view kFunctions = "functions.";
    if (calls_ && to.starts_with(kFunctions) && IsFunctionName(to.substr(kFunctions.size()))) {
      name_ = std::string(to.substr(kFunctions.size()));
      state_ = State::kCall;
      json_ = JsonScanner();
      begun_ = announced_ = false;
      raw_.clear();
    } else if (calls_ && !to.empty()) {  // a call of no function
      ++num_failed_;
      OpenBody(ReplyPiece::kContent);
      Emit(header_, out);
    } else {
      OpenBody(WordBehind(header, kHarmonyChannel) == "analysis" && to.empty()
                   ? ReplyPiece::kReasoning
                   : ReplyPiece::kContent);
    }
    return true;
  }
  OpenBody(ReplyPiece::kContent);  // there is no header
  Emit(std::exchange(start_, ""), out);
  return true;
}

bool HarmonyParser::ReadBody(std::vector<ReplyPiece>& out) {
  size_t at = std::string::npos;
  std::string_view found;
  for (const std::string_view marker : kBodyEnds) {
    const size_t here = text_.find(marker);
    if (here >= at) continue;
    at = here;
    found = marker;
  }
  if (found.empty()) {  // all but what may become a marker
    size_t held = 0;
    for (const std::string_view marker : kBodyEnds) {
      for (size_t n = std::min(marker.size() - 1, text_.size()); n > held; --n) {
        if (text_.ends_with(marker.substr(0, n))) held = n;
      }
    }
    at = text_.size() - held;
  }
  Emit(std::string_view(text_).substr(0, at), out);
  text_.erase(0, at + (found == kHarmonyStart ? 0 : found.size()));
  if (found.empty()) return false;
  state_ = State::kBetween;
  return true;
}

bool HarmonyParser::ReadCall(std::vector<ReplyPiece>& out) {
  for (size_t i = 0; i < text_.size(); ++i) {
    const char c = text_[i];
    raw_ += c;
    if (!begun_ && IsSpaceByte(c)) continue;
    JsonScanner::Result result = json_.Next(c);
    if (!begun_ && c != '{') result = JsonScanner::Result::kBad;
    if (result == JsonScanner::Result::kBad) {
      ++num_failed_;
      num_broken_ += announced_ ? 1 : 0;
      text_ = (announced_ ? std::string(1, c) : raw_) + text_.substr(i + 1);
      OpenBody(ReplyPiece::kContent);
      if (!announced_) Emit(header_, out);
      return true;
    }
    begun_ = true;
    if (!whole_) HandOut(std::string_view(&c, 1), out);
    if (result == JsonScanner::Result::kMore) continue;
    if (whole_) HandOut(TrimmedText(raw_), out);
    text_.erase(0, i + 1);
    state_ = State::kAfterCall;
    return true;
  }
  text_.clear();
  return false;
}

void HarmonyParser::HandOut(std::string_view arguments, std::vector<ReplyPiece>& out) {
  if (!announced_) out.push_back({ReplyPiece::kCall, name_, num_calls_++});
  announced_ = true;
  const int32_t call = num_calls_ - 1;
  if (out.empty() || out.back().kind != ReplyPiece::kArguments || out.back().call != call)
    out.push_back({ReplyPiece::kArguments, "", call});
  out.back().text += arguments;
}

bool HarmonyParser::SkipToHeader() {
  const size_t begin = std::min(text_.find_first_not_of(" \t\r\n"), text_.size());
  const std::string_view rest = std::string_view(text_).substr(begin);
  if (rest.empty()) return false;
  for (const std::string_view marker : kBodyEnds) {
    if (rest.starts_with(marker)) {
      if (marker == kHarmonyStart) {
        state_ = State::kHeader;
        start_ = std::string(kHarmonyStart);
      }
      text_.erase(0, begin + marker.size());
      return true;
    }
    if (marker.starts_with(rest)) return false;
  }
  OpenBody(ReplyPiece::kContent);
  return true;
}

void HarmonyParser::Finish(bool cut, std::vector<ReplyPiece>& out) {
  switch (state_) {
    case State::kCall:
      if (cut && begun_) {
        if (whole_) HandOut(raw_.substr(raw_.find('{')), out);
        return;
      }
      ++num_failed_;
      num_broken_ += announced_ ? 1 : 0;
      if (announced_) return;
      OpenBody(ReplyPiece::kContent);
      Emit(header_, out);
      return Emit(raw_, out);
    case State::kHeader:
      if (!start_.empty()) return;
      OpenBody(ReplyPiece::kContent);
      return Emit(std::exchange(text_, ""), out);
    case State::kBody:
      return Emit(std::exchange(text_, ""), out);
    default:
      return;  // white space, or a part of a marker or header
  }
}

void HarmonyParser::Emit(std::string_view text, std::vector<ReplyPiece>& out) {
  if (text.empty()) return;
  if (out.empty() || out.back().kind != kind_) out.push_back({kind_, ""});
  if (std::exchange(breaks_, false)) out.back().text += '\n';
  out.back().text += text;
  (kind_ == ReplyPiece::kReasoning ? has_reasoning_ : has_content_) = true;
}

}  // namespace penstock
