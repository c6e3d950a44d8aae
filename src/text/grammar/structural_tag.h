// Structural tags: free text in which tags with contents of a given form may stand, or must.
// Owns nothing. Must not know tokens or requests.
// Threads: n/a; pure functions, which take as long as their schemas.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "text/grammar/grammar.h"

namespace penstock::grammar {

/// Of {"format": {...}}, a tree of formats, or the older {"structures": [...], "triggers": [...]}.
/// Special tokens whose text is part of a tag count as that text, and in free text as nothing.
/// INVALID_ARGUMENT and RESOURCE_EXHAUSTED begin with the path of what cannot be kept, and a colon.
/// `loosened` takes what of schemas is no more than a remark, as formats that are not known.
absl::StatusOr<Grammar> CompileStructuralTag(const nlohmann::ordered_json& tag,
                                             std::vector<std::string>* loosened);

/// All the texts that its tags are written with, whatever their place.
std::vector<std::string> WritingsOf(const nlohmann::ordered_json& tag);

}  // namespace penstock::grammar
