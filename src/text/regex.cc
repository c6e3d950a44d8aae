#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"

namespace penstock {

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : code(compiled) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* code;
};

namespace {

// One thread's match block and JIT stack, made at first use.
class MatchState {
 public:
  static MatchState& OfThisThread() {
    thread_local MatchState state;
    return state;
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
  pcre2_match_data* data() const { return data_; }
  pcre2_match_context* context() const { return context_; }

 private:
  MatchState()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(64 << 10, 4 << 20, nullptr)) {
    pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  ~MatchState() {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(context_);
    pcre2_jit_stack_free(stack_);
  }

  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

// Rewrites what the two syntaxes spell alike and mean differently. In Oniguruma \s is White_Space,
// \w follows UTS 18,
// \h is a hexadecimal digit; PCRE2 counts U+180E as space, leaves marks out of \w and reads \h as a
// blank.
absl::StatusOr<std::string> TranslatePattern(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      switch (next) {
        case 's':
          out += "\\p{White_Space}";
          break;
        case 'S':
          out += "\\P{White_Space}";
          break;
        case 'w':
          out += in_class ? "\\p{L}\\p{M}\\p{Nd}\\p{Pc}" : "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]";
          break;
        case 'W':
          if (in_class) return absl::InvalidArgumentError("\\W inside [] is not supported");
          out += "[^\\p{L}\\p{M}\\p{Nd}\\p{Pc}]";
          break;
        case 'h':
          out += in_class ? "0-9a-fA-F" : "[0-9a-fA-F]";
          break;
        case 'H':
          if (in_class) return absl::InvalidArgumentError("\\H inside [] is not supported");
          out += "[^0-9a-fA-F]";
          break;
        default:
          out.append({'\\', next});
      }
      continue;
    }
    if (in_class && c == '&' && i + 1 < pattern.size() && pattern[i + 1] == '&') {
      return absl::InvalidArgumentError("&& inside [] is not supported");
    }
    if (c == '[') {
      const bool posix = in_class && i + 1 < pattern.size() && pattern[i + 1] == ':';
      const size_t close = posix ? pattern.find(":]", i + 2) : std::string_view::npos;
      if (close != std::string_view::npos) {
        out.append(pattern.substr(i, close + 2 - i));
        i = close + 1;
        continue;
      }
      if (in_class) return absl::InvalidArgumentError("a class inside [] is not supported");
      in_class = true;
      out += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += "\\]", ++i;
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

absl::StatusOr<pcre2_code*> CompilePcre2(std::string_view pattern) {
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    char message[256] = {};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression, offset ", offset, ": ", message));
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it is refused, matching interprets
  return code;
}

}  // namespace

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  if (!IsValidUtf8(pattern)) return absl::InvalidArgumentError("regular expression: not UTF-8");
  ASSIGN_OR_RETURN(const std::string translated, TranslatePattern(pattern));
  ASSIGN_OR_RETURN(pcre2_code * code, CompilePcre2(translated));
  return Regex(std::make_shared<const Code>(code));
}

bool Regex::Find(std::string_view text, size_t from, Match* match) const {
  const MatchState& state = MatchState::OfThisThread();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int rc = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                             state.data(), state.context());
  if (rc < 0) return false;
  const PCRE2_SIZE* vector = pcre2_get_ovector_pointer(state.data());
  if (vector[0] > vector[1] || vector[0] < from) return false;  // \K can turn a match around
  *match = {vector[0], vector[1]};
  return true;
}

size_t Regex::NextBoundary(std::string_view text, size_t pos) {
  return pos < text.size() ? pos + DecodeUtf8(text, pos).length : pos + 1;
}

}  // namespace penstock
