#include "service/call_error.h"

#include "absl/strings/cord.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr char kFieldUrl[] = "penstock/field";

}  // namespace

absl::Status InvalidField(std::string_view param, std::string_view message) {
  absl::Status status = absl::InvalidArgumentError(ToAbsl(message));
  status.SetPayload(kFieldUrl, absl::Cord(ToAbsl(param)));
  return status;
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
  renamed.SetPayload(kFieldUrl, absl::Cord(ToAbsl(param)));
  return renamed;
}

CallError ToCallError(const absl::Status& status) {
  return {status.code(), std::string(Message(status)), FieldOf(status)};
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
