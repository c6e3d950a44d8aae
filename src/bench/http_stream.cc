#include "bench/http_stream.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr size_t kMostHeadBytes = 65536;  // of a head, or of a line between chunks

/// Digits and nothing else, of which `value` can hold the number.
template <class T>
bool ReadDigits(std::string_view text, int base, T& value) {
  const auto [last, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && last == text.data() + text.size() && text[0] != '-';
}

}  // namespace

bool HttpStream::Feed(std::string_view bytes) {
  in_.append(bytes);
  while (state_ != State::kDone) {
    const State before = state_;
    const size_t size = in_.size();
    if (!Advance()) return false;
    if (state_ == before && in_.size() == size) break;  // wants more bytes
  }
  return true;
}

bool HttpStream::FeedEnd() {
  if (state_ != State::kUntilClose) return false;
  state_ = State::kDone;
  return true;
}

bool HttpStream::Advance() {
  if (state_ == State::kHead) {
    const size_t end = in_.find("\r\n\r\n");
    if (end == in_.npos) return in_.size() < kMostHeadBytes;
    if (end + 4 > kMostHeadBytes) return false;
    const bool ok = ParseHead(std::string_view(in_).substr(0, end));
    in_.erase(0, end + 4);
    return ok;
  }
  if (state_ == State::kLength || state_ == State::kChunk) {
    const size_t n = std::min(need_, in_.size());
    body_.append(in_, 0, n);
    in_.erase(0, n);
    need_ -= n;
    if (need_ == 0) state_ = state_ == State::kLength ? State::kDone : State::kChunkEnd;
    return true;
  }
  if (state_ == State::kUntilClose) {
    body_.append(in_);
    in_.clear();
    return true;
  }
  const size_t end = in_.find("\r\n");  // the rest are lines
  if (end == in_.npos) return in_.size() < kMostHeadBytes;
  if (end + 2 > kMostHeadBytes) return false;
  const std::string line = in_.substr(0, end);
  in_.erase(0, end + 2);
  if (state_ == State::kChunkEnd) {
    state_ = State::kChunkSize;
    return line.empty();
  }
  if (state_ == State::kTrailer) {
    if (line.empty()) state_ = State::kDone;
    return true;
  }
  const std::string_view size = std::string_view(line).substr(0, line.find_first_of("; \t"));
  if (size.empty() || !ReadDigits(size, 16, need_)) return false;
  state_ = need_ == 0 ? State::kTrailer : State::kChunk;
  return true;
}

bool HttpStream::ParseHead(std::string_view head) {
  if (!head.starts_with("HTTP/1.") || head.size() < 12) return false;
  if (!ReadDigits(head.substr(9, 3), 10, status_) || status_ < 100) return false;
  keep_alive_ = head.starts_with("HTTP/1.1");
  bool chunked = false, length = false;
  for (size_t begin = head.find("\r\n"); begin != head.npos;) {
    const size_t end = head.find("\r\n", begin + 2);
    const std::string_view line =
        head.substr(begin + 2, end == head.npos ? head.npos : end - begin - 2);
    const size_t colon = line.find(':');
    if (colon == line.npos) return false;
    const std::string name = absl::AsciiStrToLower(ToAbsl(line.substr(0, colon)));
    const absl::string_view value = absl::StripAsciiWhitespace(ToAbsl(line.substr(colon + 1)));
    if (name == "content-length") {
      if (value.empty() || !ReadDigits({value.data(), value.size()}, 10, need_)) return false;
      length = true;
    }
    if (name == "transfer-encoding") chunked = absl::EqualsIgnoreCase(value, "chunked");
    if (name == "connection") keep_alive_ = !absl::EqualsIgnoreCase(value, "close");
    begin = end;
  }
  if (status_ / 100 == 1) {  // "100 Continue": the answer is still to come
    need_ = 0;
  } else if (status_ == 204 || status_ == 304) {
    state_ = State::kDone;
  } else if (chunked) {
    state_ = State::kChunkSize;
  } else if (length) {
    state_ = need_ == 0 ? State::kDone : State::kLength;
  } else {  // RFC 9112, section 6.3
    state_ = State::kUntilClose;
    keep_alive_ = false;
  }
  return true;
}

}  // namespace penstock
