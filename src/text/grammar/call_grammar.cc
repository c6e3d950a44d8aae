// Calls of functions as each family of models writes them.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "text/grammar/formats.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/marker_text.h"
#include "text/grammar/pattern.h"
#include "text/grammar/reply_grammar.h"
#include "text/grammar/text_beside_calls.h"
#include "text/reply/argument_kind.h"

namespace penstock::grammar {
namespace {

using Json = nlohmann::ordered_json;
using Expr = GrammarBuilder::Expr;

/// How arguments are written one by one, where they are no JSON object.
struct ArgumentWriting {
  std::string_view key_begin, key_end, value_begin, value_end, after, between;
  bool text = true;    // what the schema calls a string is written as it is, without quotes
  bool loose = false;  // line ends may be left out, special tokens are text
};
constexpr ArgumentWriting kQwenArguments = {"<parameter=", ">", "\n", "</parameter>", "\n", ""};
constexpr ArgumentWriting kTaggedArguments = {"<parameter=", ">", "\n", "</parameter>",
                                              "\n",          "",  true, true};
constexpr ArgumentWriting kGlmArguments = {"<arg_key>",    "</arg_key>\n", "<arg_value>",
                                           "</arg_value>", "\n",           ""};
constexpr ArgumentWriting kPythonArguments = {"", "=", "", "", "", ", ", false};

/// Where it is written which call of the reply it is.
enum class Numbered : uint8_t { kNo, kBeforeName, kBehindName };

/// One row per format: open (before [number before_name] name [:number] middle arguments after)
/// separator ... close.
struct CallWriting {
  std::string_view format, open, before, middle, after, separator, close;
  Numbered numbered = Numbered::kNo;
  std::string_view before_name = {};
  const ArgumentWriting* arguments = nullptr;  // null: a JSON object
  std::string_view list = {};                  // behind open, perhaps behind a blank
};

constexpr CallWriting kWritings[] = {
    {"hermes", "", "<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>", "\n",
     ""},
    {"qwen3_coder", "", "<tool_call>\n<function=", ">\n", "</function>\n</tool_call>", "\n", "",
     Numbered::kNo, "", &kQwenArguments},
    {"glm45", "", "<tool_call>", "\n", "</tool_call>", "\n", "", Numbered::kNo, "", &kGlmArguments},
    {"nemotron", "<TOOLCALL>[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]</TOOLCALL>"},
    {"mistral", "[TOOL_CALLS]", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]",
     Numbered::kNo, "", nullptr, "["},
    {"llama3_json", "", "{\"name\": \"", "\", \"parameters\": ", "}", "; ", ""},
    {"granite", "<|tool_call|>[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]"},
    {"phi4", "functools[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]"},
    {"phi4_mini", "<|tool_call|>[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ",
     "]<|/tool_call|>"},
    {"deepseek_v3", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
     "\n```json\n", "\n```<｜tool▁call▁end｜>", "\n", "<｜tool▁calls▁end｜>"},
    {"deepseek_v31", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
     "<｜tool▁call▁end｜>", "", "<｜tool▁calls▁end｜>"},
    {"kimi_k2", "<|tool_calls_section_begin|>", "<|tool_call_begin|>functions.",
     "<|tool_call_argument_begin|>", "<|tool_call_end|>", "", "<|tool_calls_section_end|>",
     Numbered::kBehindName},
    {"pythonic", "[", "", "(", ")", ", ", "]", Numbered::kNo, "", &kPythonArguments},
    {"command_r", "<|START_ACTION|>[\n    ", "{\"tool_call_id\": \"", "\", \"parameters\": ", "}",
     ",\n    ", "\n]<|END_ACTION|>", Numbered::kBeforeName, "\", \"tool_name\": \""},
    {"command_r_plus", "Action:\n```json\n[\n", "    {\n        \"tool_name\": \"",
     "\",\n        \"parameters\": ", "\n    }", ",\n", "\n]```"},
    {"functionary", "", "", "\n", "", ">>>", ""},
    {"functionary_v31", "", "<function=", ">", "</function>", "", ""},
    {"harmony", "", "<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", "", "",
     ""},
};
// Of arguments alone, in a structural tag.
constexpr CallWriting kTagged = {"", "", "", "", "", "", "", Numbered::kNo, "", &kTaggedArguments};
// Mistral's from version 11 on, whose tokenizers have [ARGS].
constexpr CallWriting kNewMistral = {"mistral", "", "[TOOL_CALLS]", "[ARGS]", "", "", ""};

constexpr std::string_view kHarmonyCall = "to=functions.";
// What Command R+ is told to call where it calls nothing.
constexpr const char* kAnswerTools[] = {"directly_answer", "directly-answer"};

constexpr size_t kMaxCopied = 64u << 20;  // of a schema's definitions, for all its properties
constexpr size_t kMaxCallBytes = 64u << 20;

/// Names of a schema that say nothing about its instances, or what arguments apart can keep.
bool IsKeptOfArguments(std::string_view keyword) {
  static const auto& names =
      *new std::set<std::string_view>{"type",    "properties",  "required", "additionalProperties",
                                      "$defs",   "definitions", "title",    "description",
                                      "$schema", "$id",         "$comment", "default",
                                      "examples"};
  return names.contains(keyword);
}

bool IsRemark(std::string_view keyword) {
  return keyword == "type" || keyword == "title" || keyword == "description" ||
         keyword == "default" || keyword == "examples" || keyword == "$comment";
}

class CallWriter {
 public:
  CallWriter(const CallFormat& format, IsSpecial is_special, std::vector<std::string>* loosened)
      : format_(&format),
        markers_(MarkersOf({&format, nullptr})),
        is_special_(is_special),
        loosened_(loosened) {
    for (const CallWriting& writing : kWritings) {
      if (writing.format == format.name) writing_ = &writing;
    }
    if (format.body == CallBody::kMistral && is_special("[ARGS]")) writing_ = &kNewMistral;
  }

  CallWriter(const CallWriting* writing, IsSpecial is_special, std::vector<std::string>* loosened)
      : writing_(writing), is_special_(is_special), loosened_(loosened) {}

  /// Arguments of a function alone.
  absl::StatusOr<Grammar> WriteArguments(const FunctionSpec& function) {
    ASSIGN_OR_RETURN(const Expr arguments, Arguments(function));
    return builder_.Build(builder_.Sequence({LineEnd(), arguments}));
  }

  absl::StatusOr<Grammar> Write(const std::vector<FunctionSpec>& functions, bool several,
                                const TextBefore* before) {
    if (writing_ == nullptr)
      return absl::InvalidArgumentError("calls in this model's format cannot be enforced");
    const bool harmony = writing_->format == "harmony";
    std::vector<Expr> calls_of, by_role;
    for (const FunctionSpec& function : functions) {
      absl::StatusOr<Expr> arguments = Arguments(function);
      if (!arguments.ok()) {
        return absl::Status(arguments.status().code(),
                            absl::StrCat(function.at, ": ", arguments.status().message()));
      }
      calls_of.push_back(Call(function.name, *arguments));
      if (harmony && before != nullptr) by_role.push_back(CallByRole(function.name, *arguments));
    }
    if (format_->body == CallBody::kFenced && before != nullptr) {
      for (const char* name : kAnswerTools) {
        const bool declared =
            std::any_of(functions.begin(), functions.end(),
                        [&](const FunctionSpec& function) { return function.name == name; });
        if (!declared) calls_of.push_back(Call(name, Text("{}")));
      }
    }
    std::vector<Expr> parts = {Text(writing_->open)};
    if (!writing_->list.empty()) {
      parts.push_back(builder_.Optional(Text(" ")));
      parts.push_back(Text(writing_->list));
    }
    parts.push_back(builder_.Choice(calls_of));
    if (several && !harmony) {  // whose reply ends behind a call
      parts.push_back(builder_.Repeat(
          builder_.Sequence({Text(writing_->separator), builder_.Choice(calls_of)}), 0, -1));
    }
    parts.push_back(Text(writing_->close));
    Expr calls = builder_.Sequence(std::move(parts));
    if (before == nullptr) return builder_.Build(calls);
    if (harmony) calls = builder_.Choice({calls, builder_.Choice(by_role)});
    ASSIGN_OR_RETURN(const Expr text, TextBeside(*before));
    const Expr begin = Text(format_->begin);
    if (format_->body == CallBody::kNameLine)
      return builder_.Build(builder_.Choice(
          {before->behind_reasoning ? builder_.Sequence({builder_.Terminal(SomeSpace()), calls})
                                    : calls,
           builder_.Sequence({text, builder_.Optional(builder_.Sequence({begin, calls}))})}));
    if (!format_->bare) return builder_.Build(builder_.Sequence({text, builder_.Optional(calls)}));
    // Behind text each block has its mark, without which none is looked for there.
    const bool list = !writing_->close.empty();
    const Expr block = list ? calls : builder_.Choice(std::move(calls_of));
    const Expr marked = builder_.Sequence({begin, block, builder_.Optional(Text(format_->end))});
    const Expr mark = list ? GrammarBuilder::kEmpty : builder_.Optional(begin);
    return builder_.Build(
        builder_.Choice({builder_.Sequence({builder_.Terminal(SomeSpace()), mark, calls}),
                         builder_.Sequence({text, builder_.Repeat(marked, 0, several ? -1 : 1)})}));
  }

 private:
  Expr Text(std::string_view text) {
    if (writing_->arguments != nullptr && writing_->arguments->loose && !text.empty())
      return builder_.Terminal(SpelledText(text));
    return builder_.Literal(MarkSpecials(text, markers_, is_special_));
  }

  /// Without what begins a call, or a block of them.
  absl::StatusOr<Expr> TextBeside(const TextBefore& before) {
    std::vector<std::string> without = before.without;
    if (writing_->format == "harmony") without.emplace_back(kHarmonyCall);
    if (!format_->bare && !writing_->open.starts_with(format_->begin))
      without.emplace_back(writing_->open);
    return TextBesideCalls(*format_, std::move(without), is_special_, builder_);
  }

  Expr LineEnd() { return builder_.Optional(builder_.Literal("\n")); }

  /// What may be the end of a line alone.
  Expr Break(std::string_view text) {
    return writing_->arguments->loose && text == "\n" ? LineEnd() : Text(text);
  }

  /// A call's number: from 0 on in a chat, so also the first of a reply may have any.
  Expr Number() {
    const absl::StatusOr<CharAutomaton> number =
        CompilePattern("0|[1-9][0-9]?", PatternUse::kWhole);
    return builder_.Terminal(ByteAutomaton::Of(*number, TextEncoding::kUtf8));
  }

  Expr Call(const std::string& name, Expr arguments) {
    std::vector<Expr> parts = {Text(writing_->before)};
    if (writing_->numbered == Numbered::kBeforeName) {
      parts.push_back(Number());
      parts.push_back(Text(writing_->before_name));
    }
    parts.push_back(builder_.Literal(name));
    if (writing_->numbered == Numbered::kBehindName) {
      parts.push_back(builder_.Literal(":"));
      parts.push_back(Number());
    }
    for (const Expr part : {Text(writing_->middle), arguments, Text(writing_->after)})
      parts.push_back(part);
    return builder_.Sequence(std::move(parts));
  }

  /// Harmony's other way: the function is named by the role, before the channel.
  Expr CallByRole(const std::string& name, Expr arguments) {
    return builder_.Sequence(
        {Text(" "), Text(kHarmonyCall), builder_.Literal(name), Text("<|channel|>commentary"),
         builder_.Optional(builder_.Choice({Text(" <|constrain|>json"), Text(" json")})),
         Text("<|message|>"), arguments});
  }

  /// `in`: goes before what is said of the schema.
  absl::StatusOr<Expr> Value(const Json& schema, const FunctionSpec& function,
                             const std::string& in) {
    std::vector<std::string> loosened;
    absl::StatusOr<Grammar> grammar = CompileJsonSchema(schema, {function.strict, &loosened});
    if (!grammar.ok()) {
      return absl::Status(grammar.status().code(), absl::StrCat(in, grammar.status().message()));
    }
    for (const std::string& one : loosened) Loosen(function, absl::StrCat(in, one));
    bytes_ += grammar->bytes();
    if (bytes_ > kMaxCallBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(in, "#: the grammars of all functions are too large together"));
    }
    return builder_.Embed(std::make_shared<const Grammar>(*std::move(grammar)));
  }

  void Loosen(const FunctionSpec& function, std::string_view what) {
    if (loosened_ != nullptr) loosened_->push_back(absl::StrCat(function.at, ": ", ToAbsl(what)));
  }
  absl::Status Refuse(const FunctionSpec& function, const std::string& what) {
    const std::string why =
        absl::StrCat(what, writing_->arguments != nullptr && writing_->arguments->loose
                               ? " cannot be kept in arguments written one by one"
                               : " cannot be kept in the format of this model's calls");
    if (function.strict) return absl::InvalidArgumentError(why);
    Loosen(function, why);
    return absl::OkStatus();
  }

  absl::StatusOr<Expr> Arguments(const FunctionSpec& function) {
    Json schema = Json::parse(function.schema, nullptr, false);
    if (schema == true) schema = Json::object();
    if (!schema.is_object())
      return absl::InvalidArgumentError("#: must be a JSON Schema, an object");
    const auto type = schema.find("type");
    const bool listed = type != schema.end() && type->is_array() &&
                        std::find(type->begin(), type->end(), "object") != type->end();
    if (type != schema.end() && *type != "object" && !listed)
      return absl::InvalidArgumentError("#/type: arguments are an object");
    schema["type"] = "object";
    if (writing_->arguments == nullptr) return Value(schema, function, "");
    return OneByOne(schema, function);
  }

  absl::StatusOr<Expr> OneByOne(const Json& schema, const FunctionSpec& function) {
    for (const auto& [keyword, value] : schema.items()) {
      if (!IsKeptOfArguments(keyword)) RETURN_IF_ERROR(Refuse(function, "#/" + keyword));
    }
    std::set<std::string> required;
    for (const Json& name : schema.value("required", Json::array())) {
      if (name.is_string()) required.insert(name.get<std::string>());
    }
    std::vector<std::pair<Expr, bool>> members;  // and whether it must be there
    const Json properties = schema.value("properties", Json::object());
    if (!properties.is_object())
      return absl::InvalidArgumentError("#/properties must be an object");
    if ((schema.contains("$defs") || schema.contains("definitions") ||
         schema.contains("$schema")) &&
        properties.size() * function.schema.size() > kMaxCopied)
      return absl::ResourceExhaustedError("#/properties: too many beside definitions of that size");
    for (const auto& [name, of] : properties.items()) {
      const std::string path = "#/properties/" + name;
      const bool needed = required.erase(name) > 0;
      const char* unfit = writing_->arguments->text ? "<>\n\r\t " : "<>\"'=()[]{},:\n\r\t ";
      if (name.empty() || name.find_first_of(unfit) != std::string::npos) {
        RETURN_IF_ERROR(Refuse(function, path));
        continue;
      }
      const ArgumentWriting& how = *writing_->arguments;
      ASSIGN_OR_RETURN(const Expr value, ArgumentValue(path, of, schema, function));
      members.emplace_back(
          builder_.Sequence({Text(how.key_begin), builder_.Literal(name), Text(how.key_end),
                             Break(how.value_begin), value, Break(how.after)}),
          needed);
    }
    if (!required.empty())
      RETURN_IF_ERROR(Refuse(function, "#/required: " + *required.begin() + ", no property,"));
    return Members(members);
  }

  /// Members in order; what need not be there may be left out.
  Expr Members(const std::vector<std::pair<Expr, bool>>& members) {
    const Expr between = Text(writing_->arguments->between);
    if (between == GrammarBuilder::kEmpty) {
      std::vector<Expr> parts;
      for (const auto& [member, needed] : members)
        parts.push_back(needed ? member : builder_.Optional(member));
      return builder_.Sequence(std::move(parts));
    }
    // From the last one on: what may stand from here, as the first or behind another.
    Expr first = GrammarBuilder::kEmpty, later = GrammarBuilder::kEmpty;
    for (size_t i = members.size(); i-- > 0;) {
      const auto& [member, needed] = members[i];
      const Expr as_first = builder_.Sequence({member, later});
      const Expr as_later = builder_.Sequence({between, member, later});
      first = needed ? as_first : builder_.Choice({as_first, first});
      later = needed ? as_later : builder_.Choice({as_later, later});
    }
    return first;
  }

  /// A value up to its end marker. What the schema calls a string is text, all else JSON.
  absl::StatusOr<Expr> ArgumentValue(const std::string& path, const Json& of, const Json& schema,
                                     const FunctionSpec& function) {
    const ArgumentWriting& how = *writing_->arguments;
    const bool lines = how.value_begin == "\n";
    const Expr end = Break(lines ? "\n" : "");
    const Expr close = Text(how.value_end);
    if (how.text) {
      const ArgumentKind kind = KindOfArgument(of, schema);
      if (kind != ArgumentKind::kJson)
        return TextValue(path, of, schema, builder_.Sequence({end, close}), function);
    }
    Json alone = of == true ? Json::object() : of;
    if (!alone.is_object()) return absl::InvalidArgumentError(path + " must be a JSON Schema");
    for (const char* shared : {"$defs", "definitions", "$schema"}) {
      if (schema.contains(shared) && !alone.contains(shared)) alone[shared] = schema[shared];
    }
    ASSIGN_OR_RETURN(const Expr value, Value(alone, function, absl::StrCat("in ", path, ": ")));
    return builder_.Sequence({value, end, close});
  }

  struct Texts {
    std::set<std::string> words;
    bool any = false, null = false;
  };

  /// Strings as they are, or null. `end`: behind a word of an enum.
  absl::StatusOr<Expr> TextValue(const std::string& path, const Json& of, const Json& schema,
                                 Expr end, const FunctionSpec& function) {
    Texts texts;
    RETURN_IF_ERROR(TakeTexts(path, of, schema, function, texts));
    const std::string_view marker = writing_->arguments->value_end;
    if (texts.any && writing_->arguments->loose)
      return builder_.Terminal(TextUntilMarker({std::string(marker)}, 0));
    if (texts.any) return builder_.Terminal(TextUntil(marker, is_special_(marker), false, false));
    std::vector<Expr> options;
    for (const std::string& word : texts.words) {
      if (word.find(marker) == std::string::npos) options.push_back(builder_.Literal(word));
    }
    if (texts.null && !texts.words.contains("null")) options.push_back(builder_.Literal("null"));
    if (options.empty()) return absl::InvalidArgumentError(path + ": no value can fulfil this");
    return builder_.Sequence({builder_.Choice(std::move(options)), end});
  }

  /// What a schema allows of strings and null alone.
  absl::Status TakeTexts(const std::string& path, const Json& of, const Json& schema,
                         const FunctionSpec& function, Texts& texts) {
    const Json& said = SchemaReferredTo(of, schema);
    const bool is_enum = said.contains("enum"), is_const = said.contains("const");
    const bool has_options = !said.contains("type") && !is_enum && !is_const;
    for (const auto& [keyword, value] : said.items()) {
      const bool kept = keyword == (has_options ? "anyOf" : "enum") || keyword == "const";
      if (IsRemark(keyword) || kept) continue;
      const std::string at = absl::StrCat(path, "/", keyword);
      const bool is_format = keyword == "format" && value.is_string();
      const std::string remark = is_format ? RemarkOnFormat(value.get<std::string>()) : "";
      if (remark.empty()) {
        RETURN_IF_ERROR(Refuse(function, at));
      } else {
        Loosen(function, absl::StrCat(at, ": ", remark));
      }
    }
    if (has_options) {
      for (const Json& option : said["anyOf"])
        RETURN_IF_ERROR(TakeTexts(path, option, schema, function, texts));
      return absl::OkStatus();
    }
    const Json type = said.value("type", Json::array({"string", "null"}));
    const auto allows = [&type](const char* name) {
      return type == name ||
             (type.is_array() && std::find(type.begin(), type.end(), name) != type.end());
    };
    if (!is_enum && !is_const) {
      texts.any |= allows("string");
      texts.null |= allows("null");
      return absl::OkStatus();
    }
    const Json listed = is_enum ? said["enum"] : Json::array({said["const"]});
    for (const Json& word : listed) {
      if (is_const && word != said["const"]) continue;
      if (word.is_string() && allows("string")) texts.words.insert(word.get<std::string>());
      texts.null |= word.is_null() && allows("null");
    }
    return absl::OkStatus();
  }

  const CallWriting* writing_ = nullptr;
  const CallFormat* const format_ = nullptr;  // null: of arguments alone
  const std::vector<std::string_view> markers_;
  const IsSpecial is_special_;
  std::vector<std::string>* loosened_;
  GrammarBuilder builder_;
  size_t bytes_ = 0;  // of the grammars within
};

}  // namespace

absl::StatusOr<Grammar> CompileCalls(const CallFormat& format,
                                     const std::vector<FunctionSpec>& functions, bool several,
                                     const TextBefore* before, IsSpecial is_special,
                                     std::vector<std::string>* loosened) {
  return CallWriter(format, is_special, loosened).Write(functions, several, before);
}

absl::StatusOr<Grammar> CompileTaggedArguments(std::string schema, const std::string& at,
                                               std::vector<std::string>* loosened) {
  FunctionSpec function;
  function.schema = std::move(schema);
  function.at = at;
  function.strict = true;
  return CallWriter(
             &kTagged, [](std::string_view) { return false; }, loosened)
      .WriteArguments(function);
}

std::vector<std::string> WritingsOfTaggedArguments() {
  return {std::string(kTaggedArguments.key_begin), std::string(kTaggedArguments.value_end)};
}

}  // namespace penstock::grammar
