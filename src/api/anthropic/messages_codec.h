// Bodies of the Anthropic API -> GenerationCall, and its form of errors.
// Owns nothing. Must not know models, ranges (service/call_fields.h has them) or sockets.
// Threads: thread-safe; on a text worker, since bodies may be long.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "api/http/message.h"
#include "penstock/service.h"
#include "service/wire_json.h"

namespace penstock {

/// Fills `call` from a body of /v1/messages; `counting`: of /v1/messages/count_tokens, which needs
/// no max_tokens. Turns of one role in a row become one message; a last one of the assistant is
/// continued. INVALID_ARGUMENT names the field.
absl::Status ReadMessagesCall(const WireValue& body, bool counting, GenerationCall& call);

/// An error of the service under the names that fields have here.
absl::Status InMessagesNames(const absl::Status& status);

/// {"type":"error","error":{"type","message","param"},"request_id"}
std::string MessagesErrorBody(int status, std::string_view message, std::string_view param,
                              std::string_view request_id);
/// The same as an answer: an ErrorForm.
void MessagesErrorForm(const HttpRequest& request, std::string_view message, std::string_view param,
                       HttpResponse& response);

}  // namespace penstock
