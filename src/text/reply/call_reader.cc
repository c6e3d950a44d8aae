#include "text/reply/call_reader.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "text/reply/function_name.h"

namespace penstock {
namespace {

constexpr size_t kMostHeader = 512;
constexpr std::string_view kKimiPrefix = "functions.";
constexpr std::string_view kFence = "```json";

/// What stands before `marker`, and what after it; nothing after it where it is not there.
std::pair<std::string_view, std::string_view> SplitAt(std::string_view text,
                                                      std::string_view marker) {
  const size_t at = text.find(marker);
  if (at == std::string_view::npos) return {text, ""};
  return {text.substr(0, at), text.substr(at + marker.size())};
}

std::string_view NameInHeader(CallBody body, std::string_view header) {
  switch (body) {
    case CallBody::kDeepSeek: {
      const auto [before, after] = SplitAt(header, kDeepSeekSeparator);
      const std::string_view rest = TrimmedText(after);
      if (rest.empty()) return TrimmedText(before);
      return TrimmedText(rest.substr(0, rest.find_first_of("\n`")));
    }
    case CallBody::kMistral:
      return TrimmedText(header.substr(0, header.find('[')));
    case CallBody::kNameLine:
      return TrimmedText(header);
    case CallBody::kNameTag: {
      const std::string_view name = TrimmedText(header);
      return name.ends_with('>') ? name.substr(0, name.size() - 1) : "";
    }
    default: {
      std::string_view name = TrimmedText(SplitAt(header, kKimiSeparator).first);
      if (name.starts_with(kKimiPrefix)) name.remove_prefix(kKimiPrefix.size());
      const size_t colon = name.rfind(':');
      return colon == std::string_view::npos ? name : name.substr(0, colon);
    }
  }
}

bool IsList(CallBody body) { return body == CallBody::kArray || body == CallBody::kFenced; }

bool IsArgumentsKey(std::string_view written) {
  return written == "\"arguments\"" || written == "\"parameters\"";
}

/// The text of a JSON string; false where it is none.
bool Unquote(const std::string& written, std::string& text) {
  const auto parsed = nlohmann::json::parse(written, nullptr, false);
  if (!parsed.is_string()) return false;
  text = parsed.get<std::string>();
  return true;
}

constexpr XmlCallMarks kQwenMarks = {"<function=",   ">",          "<parameter=", ">", "",
                                     "</parameter>", "</function>"};
constexpr XmlCallMarks kGlmMarks = {
    "", "", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "</tool_call>"};

}  // namespace

CallReader::CallReader(CallBody body, int32_t first_call,
                       std::shared_ptr<const ArgumentKinds> types, bool one_call, bool whole)
    : body_(body), one_call_(one_call), whole_(whole), num_calls_(first_call) {
  if (body == CallBody::kQwenXml) xml_.emplace(kQwenMarks, std::move(types));
  if (body == CallBody::kGlmXml) xml_.emplace(kGlmMarks, std::move(types));
}

void CallReader::StartObject() {
  form_ = Form::kObject;
  json_ = JsonScanner();
  json_result_ = JsonScanner::Result::kBad;
  key_.clear();
  value_.clear();
  name_.clear();
  arguments_.clear();
  has_arguments_ = streams_ = announced_ = false;
  arguments_open_ = true;
}

CallReader::Result CallReader::Next(char c, std::vector<ReplyPiece>& out) {
  settled_ = collected_ = false;
  const Result result = xml_                         ? InXml(c, out)
                        : body_ == CallBody::kPython ? InPython(c, out)
                                                     : ReadOne(c, out);
  settled_ |= result == Result::kDone;
  return result;
}

CallReader::Result CallReader::InXml(char c, std::vector<ReplyPiece>& out) {
  switch (xml_->Next(c)) {
    case XmlCallReader::Event::kNone:
      return Result::kMore;
    case XmlCallReader::Event::kName:
      name_ = xml_->taken();
      return Result::kMore;
    case XmlCallReader::Event::kArgument:
      TakeArgument(xml_->taken(), out);
      return Result::kMore;
    case XmlCallReader::Event::kDone:
      return CloseArguments(out);
    case XmlCallReader::Event::kBad:
      return Result::kBad;
  }
  return Result::kBad;
}

void CallReader::TakeArgument(const std::string& member, std::vector<ReplyPiece>& out) {
  arguments_ += (has_arguments_ ? ", " : "{") + member;
  has_arguments_ = true;
  HandOut(out);
}

CallReader::Result CallReader::CloseArguments(std::vector<ReplyPiece>& out) {
  arguments_ += has_arguments_ ? "}" : "{}";
  has_arguments_ = true;
  arguments_open_ = false;
  HandOut(out);
  return Result::kDone;
}

CallReader::Result CallReader::InPython(char c, std::vector<ReplyPiece>& out) {
  if (form_ == Form::kStart) {
    if (c == '[') form_ = Form::kInArray;
    return c == '[' || IsSpaceByte(c) ? Result::kMore : Result::kBad;
  }
  if (form_ == Form::kAfterItem) return ReadOne(c, out);
  if (form_ == Form::kInArray) {
    if (IsSpaceByte(c)) return Result::kMore;
    StartObject();
    python_ = PythonCallReader();
  }
  using Event = PythonCallReader::Event;
  const Event event = python_.Next(c);
  switch (event) {
    case Event::kNone:
      return Result::kMore;
    case Event::kName:
      name_ = python_.taken();
      return Result::kMore;
    case Event::kArgument:
    case Event::kLastArgument:
      TakeArgument(python_.taken(), out);
      if (event == Event::kArgument) return Result::kMore;
      break;
    case Event::kDone:
      break;
    case Event::kBad:
      return Result::kBad;
  }
  CloseArguments(out);
  form_ = Form::kAfterItem;
  settled_ = true;
  return one_call_ ? Result::kDone : Result::kMore;
}

CallReader::Result CallReader::ReadOne(char c, std::vector<ReplyPiece>& out) {
  switch (form_) {
    case Form::kStart:
      if (body_ == CallBody::kFenced && header_ != kFence) {
        if (IsSpaceByte(c) && header_.empty()) return Result::kMore;
        header_ += c;
        return kFence.starts_with(header_) ? Result::kMore : Result::kBad;
      }
      if (IsSpaceByte(c)) return Result::kMore;
      if (c == '[' && (IsList(body_) || body_ == CallBody::kMistral)) {
        in_array_ = true;
        form_ = Form::kInArray;
        return Result::kMore;
      }
      if (IsList(body_)) return Result::kBad;
      if (body_ == CallBody::kObject) {
        StartObject();
        return InObject(c, out);
      }
      form_ = Form::kHeader;
      return InHeader(c, out);
    case Form::kInArray:
      if (IsSpaceByte(c)) return Result::kMore;
      StartObject();
      return InObject(c, out);
    case Form::kAfterItem:
      if (IsSpaceByte(c)) return Result::kMore;
      if (c == ',') form_ = Form::kInArray;
      return c == ',' ? Result::kMore : c == ']' ? Result::kDone : Result::kBad;
    case Form::kObject:
      return InObject(c, out);
    case Form::kHeader:
      return InHeader(c, out);
    case Form::kArguments: {
      const JsonScanner::Result result = json_.Next(c);
      if (result == JsonScanner::Result::kBad) return Result::kBad;
      arguments_ += c;
      arguments_open_ = result == JsonScanner::Result::kMore;
      HandOut(out);
      return arguments_open_ ? Result::kMore : Result::kDone;
    }
  }
  return Result::kBad;
}

CallReader::Result CallReader::InObject(char c, std::vector<ReplyPiece>& out) {
  json_result_ = json_.Next(c);
  if (json_result_ == JsonScanner::Result::kBad) return Result::kBad;
  if (json_.depth() == 0) {  // of the whole object
    if (c != '}' || !EndMember() || name_.empty()) return Result::kBad;
    if (!has_arguments_) arguments_ = "{}";
    has_arguments_ = true;
    arguments_open_ = false;
    HandOut(out);
    form_ = Form::kAfterItem;
    settled_ = true;
    return in_array_ && !one_call_ ? Result::kMore : Result::kDone;
  }
  const bool outer = json_.depth() == 1;
  switch (json_.role()) {
    case JsonScanner::Role::kKey:
      (outer ? key_ : value_) += c;
      break;
    case JsonScanner::Role::kPunctuation:
      if (outer && c == ',' && !EndMember()) return Result::kBad;
      if (!outer) value_ += c;
      break;
    case JsonScanner::Role::kSpace:
      if (!outer) value_ += c;
      break;
    case JsonScanner::Role::kValue:
      if (!key_.empty()) value_ += c;  // else the object's own bracket
      break;
  }
  if (!has_arguments_ && value_ == "{" && IsArgumentsKey(key_)) streams_ = has_arguments_ = true;
  if (streams_) {
    arguments_ += std::exchange(value_, "");
    if (outer && c == '}') arguments_open_ = false;
  }
  HandOut(out);
  return Result::kMore;
}

bool CallReader::EndMember() {
  const std::string key = std::exchange(key_, "");
  const std::string value = std::exchange(value_, "");
  streams_ = false;
  if (key == "\"name\"" || key == "\"tool_name\"")
    return Unquote(value, name_) && IsFunctionName(name_);
  if (!IsArgumentsKey(key) || has_arguments_ || value == "null") return true;
  has_arguments_ = true;  // as OpenAI writes them: an object within a string
  arguments_open_ = false;
  return Unquote(value, arguments_) &&
         nlohmann::json::parse(arguments_, nullptr, false).is_object();
}

CallReader::Result CallReader::InHeader(char c, std::vector<ReplyPiece>& out) {
  if (c != '{') {
    header_ += c;
    return header_.size() > kMostHeader ? Result::kBad : Result::kMore;
  }
  name_ = NameInHeader(body_, header_);
  if (!IsFunctionName(name_)) return Result::kBad;
  form_ = Form::kArguments;
  has_arguments_ = true;
  return ReadOne(c, out);
}

void CallReader::HandOutOpen(std::vector<ReplyPiece>& out) {
  if (std::exchange(arguments_open_, false) && whole_) HandOut(out);
}

void CallReader::HandOut(std::vector<ReplyPiece>& out) {
  if (name_.empty() || !has_arguments_ || arguments_.empty()) return;
  if (whole_ && arguments_open_) {
    collected_ = true;
    return;
  }
  settled_ = true;
  if (!announced_) out.push_back({ReplyPiece::kCall, name_, num_calls_++});
  announced_ = true;
  const int32_t call = num_calls_ - 1;
  if (out.empty() || out.back().kind != ReplyPiece::kArguments || out.back().call != call)
    out.push_back({ReplyPiece::kArguments, "", call});
  out.back().text += std::exchange(arguments_, "");
}

}  // namespace penstock
