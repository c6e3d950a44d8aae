#include "service/output_format.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"
#include "service/json_body.h"
#include "text/grammar/grammar_compiler.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using Form = GrammarSpec::Form;

constexpr size_t kMaxFormatName = 64;

absl::Status SetFormat(std::string_view at, GrammarSpec spec, GenerationCall& call) {
  if (call.grammar) {
    return InvalidField(
        at, absl::StrCat(ToAbsl(at), ": ", call.grammar_field, " asks for another format already"));
  }
  call.grammar = std::make_shared<const GrammarSpec>(std::move(spec));
  call.grammar_field = std::string(at);
  return absl::OkStatus();
}

/// A schema, as JSON or as a string that holds JSON.
absl::Status SetSchema(const std::string& at, const Json& value, bool strict,
                       GenerationCall& call) {
  GrammarSpec spec;
  spec.form = Form::kJsonSchema;
  spec.strict = strict;
  if (value.is_string()) {
    absl::StatusOr<Json> parsed = ParseWireJson(value.get_ref<const std::string&>(), at);
    if (!parsed.ok()) return InvalidField(at, Message(parsed.status()));
    spec.text = parsed->dump();
  } else if (value.is_object() || value.is_boolean()) {
    spec.text = value.dump();
  } else {
    return WrongJsonType(at, "a JSON Schema", value);
  }
  return SetFormat(at, std::move(spec), call);
}

absl::Status SetText(const std::string& at, Form form, const Json& value, GenerationCall& call) {
  if (!value.is_string()) return WrongJsonType(at, "a string", value);
  GrammarSpec spec;
  spec.form = form;
  spec.text = value.get<std::string>();
  return SetFormat(at, std::move(spec), call);
}

absl::Status SetChoice(const std::string& at, const Json& value, GenerationCall& call) {
  GrammarSpec spec;
  spec.form = Form::kChoice;
  if (!value.is_array()) return WrongJsonType(at, "an array of strings", value);
  for (const Json& choice : value) {
    if (!choice.is_string()) return WrongJsonType(at, "an array of strings", choice);
    spec.choices.push_back(choice.get<std::string>());
  }
  return SetFormat(at, std::move(spec), call);
}

absl::Status SetObject(const std::string& at, const Json& value, GenerationCall& call) {
  if (!value.is_boolean()) return WrongJsonType(at, "true or false", value);
  return value.get<bool>() ? SetFormat(at, {}, call) : absl::OkStatus();
}

/// A structural tag, as JSON or as a string that holds JSON. What it must be is seen when it is
/// compiled.
absl::Status SetTag(const std::string& at, const Json& value, GenerationCall& call) {
  GrammarSpec spec;
  spec.form = Form::kTag;
  if (value.is_string()) {
    absl::StatusOr<Json> parsed = ParseWireJson(value.get_ref<const std::string&>(), at);
    if (!parsed.ok()) return InvalidField(at, Message(parsed.status()));
    if (!parsed->is_object()) return WrongJsonType(at, "a structural tag, an object", *parsed);
    spec.text = parsed->dump();
  } else if (value.is_object()) {
    spec.text = value.dump();
  } else {
    return WrongJsonType(at, "a structural tag, an object", value);
  }
  return SetFormat(at, std::move(spec), call);
}

absl::Status ReadOne(const std::string& at, std::string_view kind, const Json& value,
                     GenerationCall& call) {
  if (kind == "json") return SetSchema(at, value, true, call);
  if (kind == "regex") return SetText(at, Form::kRegex, value, call);
  if (kind == "choice") return SetChoice(at, value, call);
  if (kind == "grammar") {
    if (!value.is_string()) return WrongJsonType(at, "a string", value);
    return SetText(at, FormOfGrammar(value.get_ref<const std::string&>()), value, call);
  }
  if (kind == "json_object") return SetObject(at, value, call);
  if (kind == "structural_tag") return SetTag(at, value, call);
  return InvalidField(at, absl::StrCat(at,
                                       " is not supported: json, regex, choice, grammar, "
                                       "json_object and structural_tag are"));
}

absl::Status ReadStructuredOutputs(const Json& value, GenerationCall& call) {
  if (!value.is_object()) return WrongJsonType("structured_outputs", "an object", value);
  for (const auto& [kind, one] : value.items()) {
    if (one.is_null()) continue;
    RETURN_IF_ERROR(ReadOne("structured_outputs." + Shown(kind), kind, one, call));
  }
  return absl::OkStatus();
}

absl::Status CheckName(const std::string& at, const Json& format) {
  const auto name = format.find("name");
  const std::string name_at = at + ".name";
  if (name == format.end() || !name->is_string())
    return InvalidField(name_at, name_at + " must be a string");
  const std::string& text = name->get_ref<const std::string&>();
  if (text.empty() || text.size() > kMaxFormatName) {
    return InvalidField(name_at,
                        absl::StrCat(name_at, " must have 1 to ", kMaxFormatName, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status ReadSchemaOf(const std::string& at, const Json& format, GenerationCall& call) {
  const std::string schema_at = at + ".schema";
  const auto schema = format.find("schema");
  if (schema == format.end() || !schema->is_object()) {
    return InvalidField(schema_at, schema_at + " must be a JSON Schema, an object");
  }
  bool strict = true;
  const auto found = format.find("strict");
  if (found != format.end() && !found->is_null()) {
    if (!found->is_boolean()) return WrongJsonType(at + ".strict", "true or false", *found);
    strict = found->get<bool>();
  }
  return SetSchema(schema_at, *schema, strict, call);
}

/// What `format` asks for; for a schema `nested` says whether it lies a level deeper.
absl::Status ReadTyped(const std::string& at, const Json& format, bool nested, bool named,
                       GenerationCall& call) {
  if (!format.is_object()) return WrongJsonType(at, "an object with a type", format);
  const auto type = format.find("type");
  if (type != format.end() && *type == "text") return absl::OkStatus();
  if (type != format.end() && *type == "json_object") return SetFormat(at, {}, call);
  if (type != format.end() && *type == "structural_tag") return SetTag(at, format, call);
  if (type == format.end() || *type != "json_schema") {
    return InvalidField(at, absl::StrCat(at,
                                         ": type must be \"text\", \"json_object\", "
                                         "\"json_schema\" or \"structural_tag\""));
  }
  if (!nested) {
    if (named) RETURN_IF_ERROR(CheckName(at, format));
    return ReadSchemaOf(at, format, call);
  }
  const std::string inner_at = at + ".json_schema";
  const auto inner = format.find("json_schema");
  if (inner == format.end() || !inner->is_object())
    return InvalidField(inner_at, inner_at + " must be an object with a name and a schema");
  RETURN_IF_ERROR(CheckName(inner_at, *inner));
  return ReadSchemaOf(inner_at, *inner, call);
}

}  // namespace

bool IsFormatField(std::string_view name) {
  return name == "response_format" || name == "structured_outputs" || name.starts_with("guided_");
}

absl::Status ReadFormatField(std::string_view name, const Json& value, GenerationCall& call) {
  if (name == "response_format") return ReadTyped("response_format", value, true, true, call);
  if (name == "structured_outputs") return ReadStructuredOutputs(value, call);
  constexpr std::string_view kOlder = "guided_";
  return ReadOne(std::string(name), name.substr(kOlder.size()), value, call);
}

absl::Status ReadFlatFormat(std::string_view at, const Json& value, GenerationCall& call) {
  return ReadTyped(std::string(at), value, false, at == "text.format", call);
}

}  // namespace penstock
