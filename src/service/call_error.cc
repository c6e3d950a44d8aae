#include "service/call_error.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/strings.h"
#include "base/utf8.h"

namespace penstock {
namespace {

constexpr char kFieldUrl[] = "penstock/field";
constexpr char kRetryUrl[] = "penstock/retry-after";
constexpr char kLimitsUrl[] = "penstock/limits";
constexpr char kClientsTextUrl[] = "penstock/clients-text";

constexpr size_t kMaxField = 256;  // bytes
constexpr size_t kMaxMessage = 4096;
constexpr size_t kMaxLogged = 1024;

}  // namespace

absl::Status InvalidField(std::string_view param, std::string_view message) {
  absl::Status status = absl::InvalidArgumentError(Shown(message, kMaxMessage));
  status.SetPayload(kFieldUrl, absl::Cord(Shown(param, kMaxField)));
  return status;
}

absl::Status WithClientsText(absl::Status status) {
  status.SetPayload(kClientsTextUrl, absl::Cord());
  return status;
}

std::string LoggedError(const absl::Status& status) {
  std::string message(Message(status));
  const std::string field = FieldOf(status);
  if (status.code() != absl::StatusCode::kInvalidArgument || field.empty())
    return Shown(message, kMaxLogged);
  // Within a field are names that the client chose.
  const size_t within = field.find_first_of(".[");
  if (within != field.npos || status.GetPayload(kClientsTextUrl))
    return absl::StrCat(Shown(field.substr(0, within)), " is refused: only the client is told why");
  const size_t first = message.find('"');
  const size_t last = message.rfind('"');
  if (first != last) message.replace(first + 1, last - first - 1, "...");
  return Shown(message, kMaxLogged);
}

std::string Shown(std::string_view name, size_t max_bytes) {
  if (name.size() <= max_bytes) return std::string(name);
  return absl::StrCat(ToAbsl(Utf8Prefix(name, max_bytes)), "...");
}

std::string FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kFieldUrl);
  return payload ? std::string(*payload) : std::string();
}

absl::Status WithField(const absl::Status& status, std::string_view param) {
  const std::string old = FieldOf(status);
  std::string message(Message(status));
  if (!old.empty() && message.starts_with(old)) message.replace(0, old.size(), param);
  absl::Status renamed(status.code(), message);
  renamed.SetPayload(kFieldUrl, absl::Cord(Shown(param, kMaxField)));
  if (status.GetPayload(kClientsTextUrl)) return WithClientsText(std::move(renamed));
  return renamed;
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration wait) {
  const int64_t seconds =
      std::clamp<int64_t>(absl::ToInt64Seconds(absl::Ceil(wait, absl::Seconds(1))), 1, 86400);
  status.SetPayload(kRetryUrl, absl::Cord(absl::StrCat(seconds)));
  return status;
}

std::optional<int64_t> RetryAfterOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryUrl);
  int64_t seconds = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &seconds)) return std::nullopt;
  return seconds;
}

absl::Status WithLimits(absl::Status status, const TenantState& state) {
  std::vector<int64_t> numbers;
  for (const LimitState* left : {&state.requests, &state.tokens}) {
    numbers.insert(numbers.end(),
                   {left->limit, left->remaining, absl::ToInt64Milliseconds(left->reset)});
  }
  status.SetPayload(kLimitsUrl, absl::Cord(absl::StrJoin(numbers, " ")));
  return status;
}

TenantState LimitsOf(const absl::Status& status) {
  TenantState state;
  const auto payload = status.GetPayload(kLimitsUrl);
  if (!payload) return state;
  const std::vector<std::string> numbers = absl::StrSplit(std::string(*payload), ' ');
  if (numbers.size() != 6) return state;
  for (size_t i = 0; i < 2; ++i) {
    LimitState& left = i == 0 ? state.requests : state.tokens;
    int64_t reset = 0;
    if (!absl::SimpleAtoi(numbers[3 * i], &left.limit) ||
        !absl::SimpleAtoi(numbers[3 * i + 1], &left.remaining) ||
        !absl::SimpleAtoi(numbers[3 * i + 2], &reset))
      return {};
    left.reset = absl::Milliseconds(reset);
  }
  return state;
}

bool IsServerFailure(const CallError& error) {
  return error.code == absl::StatusCode::kInternal || error.code == absl::StatusCode::kUnavailable;
}

CallError ToCallError(const absl::Status& status) {
  return {status.code(), Shown(Message(status), kMaxMessage), FieldOf(status),
          RetryAfterOf(status)};
}

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kDeadlineExceeded:
      return 408;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    default:
      return 500;
  }
}

}  // namespace penstock
