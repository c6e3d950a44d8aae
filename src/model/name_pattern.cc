#include "model/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr size_t kMaxPatternBytes = 1024;
constexpr uint32_t kMaxSteps = 10'000;
constexpr uint32_t kMaxHeapKibibytes = 4096;

/// Takes the first dotted part off `name`.
std::string_view NextPart(std::string_view& name) {
  const size_t dot = name.find('.');
  const std::string_view part = name.substr(0, dot);
  name = dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
  return part;
}

/// Whether `name` begins with the parts.
bool BeginsWith(std::string_view name, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (name.empty()) return false;
    const std::string_view given = NextPart(name);
    if (part != "*" && part != given) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<NamePattern> NamePattern::Parse(std::string_view text) {
  if (text.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a pattern of ", text.size(), " bytes, expected at most ", kMaxPatternBytes));
  }
  NamePattern pattern;
  pattern.text_ = text;
  if (!text.starts_with("re:")) {
    pattern.parts_ = absl::StrSplit(ToAbsl(text), '.');
    return pattern;
  }
  const std::string_view expression = text.substr(3);
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()),
                                   expression.size(), PCRE2_ANCHORED, &error, &at, nullptr);
  if (code == nullptr) {
    char message[128];
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    return absl::InvalidArgumentError(
        absl::StrCat("expression \"", ToAbsl(expression), "\": ", message, " at ", at));
  }
  pattern.expression_ = std::shared_ptr<const void>(
      code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); });
  return pattern;
}

absl::StatusOr<bool> NamePattern::Matches(std::string_view name) const {
  if (expression_ == nullptr) {
    for (std::string_view rest = name; !rest.empty(); NextPart(rest)) {
      if (BeginsWith(rest, parts_)) return true;
    }
    return false;
  }
  const auto* code = static_cast<const pcre2_code*>(expression_.get());
  const std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  pcre2_set_match_limit(context.get(), kMaxSteps);
  pcre2_set_heap_limit(context.get(), kMaxHeapKibibytes);
  const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0,
                             data.get(), context.get());
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  if (rc < 0) {
    return absl::InvalidArgumentError(absl::StrCat("pattern \"", text_, "\" takes too many steps"));
  }
  return true;
}

}  // namespace penstock
