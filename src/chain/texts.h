// All texts that a call brings to the model: prompts, messages, tools, documents, templates.
// Owns nothing. Must not know who looks at them.
// Threads: any; long for long calls.
#pragma once

#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "penstock/service.h"

namespace penstock {

/// Calls `look` with each text and the role of its message ("prompt", "tool", "document" or
/// "template" for others) until it returns false. Ids are shown as their text. False where `look`
/// said so, or there are ids that no tokenizer can show.
bool VisitTexts(const GenerationCall& call, const ServedModel* model,
                absl::FunctionRef<bool(std::string_view role, std::string_view text)> look);

/// The same with texts that may be changed. Ids that were changed become text.
bool EditTexts(GenerationCall& call, const ServedModel* model,
               absl::FunctionRef<bool(std::string_view role, std::string& text)> edit);

}  // namespace penstock
