#include "text/grammar/formats.h"

#include <map>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/grammar/pattern.h"

namespace penstock::grammar {
namespace {

std::string DatePattern() {
  // Days by the length of the month; the 29th of February in leap years only. No year 0, which most
  // libraries of dates refuse.
  const std::string year = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])";
  const std::string leap =
      "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
  return absl::StrCat(
      "(?:", year,
      "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]["
      "0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|",
      leap, "-02-29)");
}

std::string TimePattern() {
  // A leap second is the last of a day of UTC; elsewhere than there it is left out.
  return "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?"
         "(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])|23:59:60(?:\\.[0-9]+)?(?:[Zz]|[+-]00:00))";
}

std::string HostPattern() {
  const std::string label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
  return absl::StrCat(label, "(?:\\.", label, ")*");
}

std::string Ipv4Pattern() {
  const std::string octet = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  return absl::StrCat("(?:", octet, "\\.){3}", octet);
}

std::string Ipv6Pattern() {
  const std::string group = "[0-9A-Fa-f]{1,4}";
  const std::string last = absl::StrCat("(?:", group, ":", group, "|", Ipv4Pattern(), ")");
  // By the number of groups after the "::".
  std::string out = absl::StrCat("(?:", group, ":){6}", last);
  for (int after = 5; after >= 0; --after) {
    const int before = 5 - after;
    const std::string head =
        before == 0 ? "" : absl::StrCat("(?:(?:", group, ":){0,", before - 1, "}", group, ")?");
    absl::StrAppend(&out, "|", head, "::(?:", group, ":){", after, "}", last);
  }
  absl::StrAppend(&out, "|(?:(?:", group, ":){0,5}", group, ")?::", group);
  absl::StrAppend(&out, "|(?:(?:", group, ":){0,6}", group, ")?::");
  return absl::StrCat("(?:", out, ")");
}

std::string UriPattern(bool relative) {
  const std::string escaped = "%[0-9A-Fa-f]{2}";
  const std::string common = "A-Za-z0-9\\-._~!$&'()*+,;=";
  const std::string pchar = absl::StrCat("(?:[", common, ":@]|", escaped, ")");
  const std::string segments = absl::StrCat("(?:/", pchar, "*)*");
  const std::string authority = absl::StrCat(
      "(?:(?:[", common, ":]|", escaped, ")*@)?(?:\\[(?:", Ipv6Pattern(), "|[vV][0-9A-Fa-f]+\\.[",
      common, ":]+)\\]|(?:[", common, "]|", escaped, ")*)(?::[0-9]*)?");
  const std::string rest = absl::StrCat("(?:", pchar, "|[/?])*");
  const std::string scheme = "[A-Za-z][A-Za-z0-9+.\\-]*:";
  const std::string rooted =
      absl::StrCat("//", authority, segments, "|/(?:", pchar, "+", segments, ")?|");
  const std::string end = absl::StrCat("(?:\\?", rest, ")?(?:#", rest, ")?");
  const std::string absolute = absl::StrCat(scheme, "(?:", rooted, pchar, "+", segments, "|)", end);
  if (!relative) return absolute;
  // The first step of a relative path has no colon, which would end a scheme.
  const std::string step = absl::StrCat("(?:[", common, "@]|", escaped, ")+");
  return absl::StrCat("(?:", absolute, "|(?:", rooted, step, segments, "|)", end, ")");
}

std::string EmailPattern() {
  const std::string label = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
  const std::string domain = absl::StrCat(label, "(?:\\.", label, ")*");
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]+";
  // Addresses in brackets in place of a domain are left out: nobody has them.
  return absl::StrCat("(?:", atom, "(?:\\.", atom, ")*|\"(?:[ !#-\\[\\]-~]|\\\\[ -~])*\")@",
                      domain);
}

std::string DurationPattern() {
  const std::string time = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)";
  return absl::StrCat("P(?:(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)(?:",
                      time, ")?|", time, "|[0-9]+W)");
}

std::string PatternOf(std::string_view name) {
  if (name == "date") return DatePattern();
  if (name == "time") return TimePattern();
  if (name == "date-time") return absl::StrCat(DatePattern(), "[Tt]", TimePattern());
  if (name == "email") return EmailPattern();
  if (name == "uuid")
    return "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}";
  if (name == "uri") return UriPattern(false);
  if (name == "uri-reference") return UriPattern(true);
  if (name == "json-pointer") return "(?:/(?:[^~/]|~[01])*)*";
  if (name == "relative-json-pointer") return "(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)";
  if (name == "duration") return DurationPattern();
  if (name == "ipv4") return Ipv4Pattern();
  if (name == "ipv6") return Ipv6Pattern();
  if (name == "hostname") return HostPattern();  // and ShortTexts their sum
  return "";
}

}  // namespace

const CharAutomaton* FindFormat(std::string_view name) {
  static std::mutex mutex;
  static auto& made = *new std::map<std::string, CharAutomaton>();
  const std::string pattern = PatternOf(name);
  if (pattern.empty()) return nullptr;
  std::lock_guard lock(mutex);
  const auto it = made.find(std::string(name));
  if (it != made.end()) return &it->second;
  absl::StatusOr<CharAutomaton> compiled = CompilePattern(pattern, PatternUse::kWhole);
  CHECK(compiled.ok());
  return &made.emplace(name, *std::move(compiled)).first->second;
}

bool IsOtherFormat(std::string_view name) {
  for (const char* other :
       {"regex", "iri", "iri-reference", "idn-email", "idn-hostname", "uri-template"}) {
    if (name == other) return true;
  }
  return false;
}

std::string RemarkOnFormat(std::string_view name) {
  if (FindFormat(name) != nullptr || IsOtherFormat(name)) return "";
  return absl::StrCat("\"", ToAbsl(name), "\" is not known and not kept");
}

}  // namespace penstock::grammar
