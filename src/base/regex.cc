#include "base/regex.h"

#include <oniguruma.h>

#include <algorithm>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "base/utf8.h"

namespace penstock {

struct Regex::Code {
  explicit Code(regex_t* compiled) : code(compiled) {}
  ~Code() { onig_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  regex_t* code;
};

namespace {

void InitializeOniguruma() {
  static const int done = [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_set_parse_depth_limit(200);
    return onig_initialize(encodings, 1);
  }();
  (void)done;
}

const OnigUChar* Bytes(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

// One thread's places for a match and its limits, made at first use.
class OnigState {
 public:
  static OnigState& OfThisThread() {
    thread_local OnigState state;
    return state;
  }
  OnigState(const OnigState&) = delete;
  OnigState& operator=(const OnigState&) = delete;

  OnigRegion* region() { return region_; }
  OnigMatchParam* LimitsFor(size_t text_bytes) {
    constexpr size_t kLeastSteps = 100000;
    constexpr size_t kMostSteps = 10000000;
    constexpr unsigned int kStackEntries = 4 << 20;
    const size_t steps = std::clamp(16 * text_bytes, kLeastSteps, kMostSteps);
    onig_initialize_match_param(param_);
    onig_set_match_stack_limit_size_of_match_param(param_, kStackEntries);
    onig_set_retry_limit_in_match_of_match_param(param_, steps);
    onig_set_retry_limit_in_search_of_match_param(param_, steps);
    return param_;
  }

 private:
  OnigState() : region_(onig_region_new()), param_(onig_new_match_param()) {}
  ~OnigState() {
    onig_region_free(region_, 1);
    onig_free_match_param(param_);
  }

  OnigRegion* region_;
  OnigMatchParam* param_;
};

}  // namespace

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  if (!IsValidUtf8(pattern)) return absl::InvalidArgumentError("regular expression: not UTF-8");
  InitializeOniguruma();
  regex_t* code = nullptr;
  OnigErrorInfo info;
  const int rc = onig_new(&code, Bytes(pattern), Bytes(pattern) + pattern.size(), ONIG_OPTION_NONE,
                          ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  if (rc != ONIG_NORMAL) {
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN] = {};
    const int length = onig_error_code_to_str(message, rc, &info);
    const std::string reason(reinterpret_cast<const char*>(message), std::max(length, 0));
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression \"", ToAbsl(pattern.substr(0, 200)), "\": ", reason));
  }
  return Regex(std::make_shared<const Code>(code));
}

bool Regex::Find(std::string_view text, size_t from, Match* match) const {
  if (text.size() > static_cast<size_t>(std::numeric_limits<int>::max())) return false;
  OnigState& state = OnigState::OfThisThread();
  const OnigUChar* begin = Bytes(text);
  const OnigUChar* end = begin + text.size();
  const int at = onig_search_with_param(code_->code, begin, end, begin + from, end, state.region(),
                                        ONIG_OPTION_NONE, state.LimitsFor(text.size()));
  if (at < 0) return false;
  const int match_begin = state.region()->beg[0];
  const int match_end = state.region()->end[0];
  if (match_begin > match_end || match_begin < static_cast<int>(from)) return false;
  *match = {static_cast<size_t>(match_begin), static_cast<size_t>(match_end)};
  return true;
}

size_t Regex::NextBoundary(std::string_view text, size_t pos) {
  return pos < text.size() ? pos + DecodeUtf8(text, pos).length : pos + 1;
}

}  // namespace penstock
