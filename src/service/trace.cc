#include "service/trace.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "service/ids.h"

namespace penstock {
namespace {

constexpr size_t kTraceparentBytes = 55;  // of version 00; later ones may go on after a dash

bool IsLowerHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(std::string_view text) { return text.find_first_not_of('0') == text.npos; }

// version "-" trace id "-" span id "-" flags
bool IsTraceparent(std::string_view text) {
  if (text.size() < kTraceparentBytes || text[2] != '-' || text[35] != '-' || text[52] != '-')
    return false;
  const std::string_view version = text.substr(0, 2);
  if (!IsLowerHex(version) || version == "ff") return false;
  if (text.size() > kTraceparentBytes && (version == "00" || text[kTraceparentBytes] != '-'))
    return false;
  const std::string_view trace_id = text.substr(3, 32), span_id = text.substr(36, 16);
  return IsLowerHex(trace_id) && IsLowerHex(span_id) && IsLowerHex(text.substr(53, 2)) &&
         !IsZero(trace_id) && !IsZero(span_id);
}

}  // namespace

TraceIds ContinueTrace(std::string_view traceparent, double sample) {
  TraceIds trace;
  do {
    trace.span_id = MakeRequestId().substr(0, 16);
  } while (IsZero(trace.span_id));
  if (IsTraceparent(traceparent)) {
    trace.trace_id = std::string(traceparent.substr(3, 32));
    trace.parent_id = std::string(traceparent.substr(36, 16));
    trace.flags = std::string(traceparent.substr(53, 2));
    return trace;
  }
  do {
    trace.trace_id = MakeRequestId();
  } while (IsZero(trace.trace_id));
  constexpr double kOne = 9007199254740992;  // 2^53
  if (static_cast<double>(RandomBits() >> 11) < sample * kOne) trace.flags = "01";
  return trace;
}

std::string Traceparent(const TraceIds& trace) {
  return absl::StrCat("00-", trace.trace_id, "-", trace.span_id, "-", trace.flags);
}

}  // namespace penstock
