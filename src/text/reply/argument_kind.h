// Whether an argument that is written between marks is text as it is, or JSON.
// Owns nothing. Must not know marks, or who reads and who writes.
// Threads: thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace penstock {

enum class ArgumentKind : uint8_t {
  kJson,
  kText,        // as it is, whatever it looks like
  kTextOrNull,  // text, but for the word null
};

/// function -> parameter -> how it is written; JSON where nothing is said.
using ArgumentKinds = std::map<std::string, std::map<std::string, ArgumentKind>>;

/// Of a value of `schema`, a part of `root`: text where nothing but strings fulfils it, or strings and
/// null. Of a schema that allows numbers beside strings no text could tell which it is.
ArgumentKind KindOfArgument(const nlohmann::ordered_json& schema,
                            const nlohmann::ordered_json& root);

/// What a `$ref` to one of the definitions of `root` stands for, and any other schema for itself.
const nlohmann::ordered_json& SchemaReferredTo(const nlohmann::ordered_json& schema,
                                               const nlohmann::ordered_json& root);

}  // namespace penstock
