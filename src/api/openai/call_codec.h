// JSON bodies of the OpenAI API -> GenerationCall.
// Owns nothing. Must not know models, ranges (service/call_fields.h has them) or sockets.
// Threads: thread-safe; on a text worker, since bodies may be long.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "penstock/service.h"
#include "service/call_fields.h"
#include "service/wire_json.h"

namespace penstock {

/// Fills `call` from a body of /v1/completions or /v1/chat/completions. Unknown fields are ignored;
/// wrong types, and fields of the API that this server does not support yet, are INVALID_ARGUMENT
/// with the field's name.
absl::Status ReadCall(const WireValue& body, Surface surface, GenerationCall& call);

/// Reads every field that the table knows on `surface`; those of a form of their own by
/// `read_own_form`.
using ReadOwn = absl::FunctionRef<absl::Status(std::string_view name, const WireValue&)>;
absl::Status ReadFields(const WireValue& body, Surface surface, GenerationCall& call,
                        ReadOwn read_own_form);

/// Puts `value` where the row says; INVALID_ARGUMENT for a wrong type.
absl::Status ReadField(const CallField& field, const WireValue& value, GenerationCall& call);

/// A text, texts, ids, or lists of ids. `name_entries`: errors name `name[i]`.
absl::Status ReadPrompts(std::string_view name, bool name_entries, const WireValue& value,
                         std::vector<PromptInput>& prompts);

/// Of modalities and spaces_between_special_tokens: INVALID_ARGUMENT
/// for all but what this server does.
absl::Status CheckOnlyValue(std::string_view name, const nlohmann::ordered_json& value);

/// INVALID_ARGUMENT where `name` is a field that would change the result and is not supported, and
/// `value` uses it.
absl::Status RefuseUnsupported(std::string_view name, const WireValue& value, Surface surface);

}  // namespace penstock
