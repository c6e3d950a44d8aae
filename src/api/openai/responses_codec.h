// Bodies of /v1/responses -> GenerationCall, and what the answer repeats of them.
// Owns nothing. Must not know models, ranges (service/call_fields.h has them) or sockets.
// Threads: thread-safe; on a text worker, since bodies may be long.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "penstock/service.h"
#include "service/wire_json.h"

namespace penstock {

/// What a response says of its request beside what GenerationCall holds.
struct ResponseRequest {
  bool stream = false;
  bool store = true;
  std::optional<std::string> instructions, previous_response_id, reasoning_effort, user;
  std::string metadata = "{}";                         // JSON
  std::string text = R"({"format":{"type":"text"}})";  // JSON
  bool parallel_tool_calls = true;
  std::optional<int64_t> max_output_tokens;
  std::optional<double> temperature, top_p;
  std::string tools = "[]", tool_choice = "\"auto\"";  // JSON
  /// The messages of this request alone, without instructions; JoinConversation puts what was
  /// before in front.
  std::shared_ptr<const nlohmann::ordered_json> conversation;
  std::shared_ptr<const nlohmann::ordered_json> items;  // the input, as it is listed later
};

/// Reads a body of /v1/responses; the call has no messages yet. INVALID_ARGUMENT names the field.
absl::Status ReadResponseCall(const WireValue& body, GenerationCall& call,
                              ResponseRequest& request);

/// Makes the call's messages: instructions, then the conversation of `before` (null: none), then
/// the request's input.
absl::Status JoinConversation(const nlohmann::ordered_json* before, GenerationCall& call,
                              ResponseRequest& request);

/// An error of the service under the names that fields have here.
absl::Status InResponseNames(const absl::Status& status);

}  // namespace penstock
