#include "text/grammar/structural_tag.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/utf8.h"
#include "text/grammar/grammar_compiler.h"
#include "text/grammar/marker_text.h"
#include "text/grammar/reply_grammar.h"

namespace penstock::grammar {
namespace {

using Json = nlohmann::ordered_json;
using Expr = GrammarBuilder::Expr;

constexpr int kMaxTagDepth = 32;
constexpr size_t kMaxTags = 512;
constexpr size_t kMaxMarkers = 32;
constexpr size_t kMaxMarkerBytes = 1024;  // of all markers of a free text together
constexpr size_t kMaxTagBytes = 64u << 20;
constexpr size_t kMaxShown = 128;          // bytes of a name that is refused
constexpr size_t kMaxWritten = 32u << 10;  // bytes of all begins, ends and other fixed texts

absl::Status WrongTag(const std::string& at, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(at, ": ", ToAbsl(what)));
}
absl::Status TagTooLarge(const std::string& at, std::string_view what) {
  return absl::ResourceExhaustedError(absl::StrCat(at, ": ", ToAbsl(what)));
}

std::string ItemAt(const std::string& at, size_t i) { return absl::StrCat(at, "[", i, "]"); }

/// The member, or null where there is none.
const Json& TagMember(const Json& object, std::string_view name) {
  static const Json kNothing;
  const auto found = object.find(name);
  return found == object.end() ? kNothing : *found;
}

/// What may stand where a format ends.
struct Following {
  bool reply_ends = false;         // nothing: the reply may end anywhere in free text
  std::vector<std::string> texts;  // one of these, which belongs to the format
};

struct Tag {
  std::string begin, at;
  std::string content_at;
  const Json* content = nullptr;
  std::vector<std::string> ends;
};

class TagCompiler {
 public:
  explicit TagCompiler(std::vector<std::string>* loosened) : loosened_(loosened) {}

  absl::StatusOr<Grammar> Compile(const Json& tag) {
    ASSIGN_OR_RETURN(const Expr root, Root(tag));
    absl::StatusOr<Grammar> made = builder_.Build(root);
    if (made.ok()) return made;
    return absl::Status(made.status().code(),
                        absl::StrCat(root_at_, ": ", made.status().message()));
  }

 private:
  absl::StatusOr<Expr> Root(const Json& tag) {
    if (!tag.is_object()) return WrongTag("format", "a structural tag is an object");
    const Following end = {true, {}};
    if (tag.contains("format")) {
      RETURN_IF_ERROR(OnlyMembers(tag, "", {"type", "format"}));
      root_at_ = "format";
      return Format(tag["format"], "format", end, 0);
    }
    RETURN_IF_ERROR(OnlyMembers(tag, "", {"type", "structures", "triggers"}));
    root_at_ = "structures";
    const Json& structures = TagMember(tag, "structures");
    if (!structures.is_array() || structures.empty())
      return WrongTag("structures", "must be an array of at least one tag, or \"format\" a format");
    std::vector<Tag> tags;
    contents_.clear();
    contents_.reserve(structures.size());  // tags point at them
    for (size_t i = 0; i < structures.size(); ++i) {
      const std::string at = ItemAt("structures", i);
      if (!structures[i].is_object()) return WrongTag(at, "must be an object");
      RETURN_IF_ERROR(OnlyMembers(structures[i], at + ".", {"begin", "schema", "end"}));
      contents_.push_back(
          {{"type", "json_schema"}, {"schema", TagMember(structures[i], "schema")}});
      ASSIGN_OR_RETURN(Tag made, ReadTag(structures[i], at));
      made.content = &contents_.back();
      made.content_at = at;
      tags.push_back(std::move(made));
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> triggers,
                     Texts(TagMember(tag, "triggers"), "triggers"));
    return FreeTextWith(tags, triggers, {}, {}, "", end, 0);
  }

  static absl::Status OnlyMembers(const Json& object, const std::string& prefix,
                                  std::initializer_list<std::string_view> known) {
    for (const auto& [name, value] : object.items()) {
      if (std::find(known.begin(), known.end(), name) == known.end() && !value.is_null())
        return WrongTag(absl::StrCat(prefix, ToAbsl(Utf8Prefix(name, kMaxShown))),
                        "is not supported here");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Text(const Json& value, const std::string& at) {
    if (!value.is_string()) return WrongTag(at, "must be a string");
    return value.get<std::string>();
  }

  absl::StatusOr<std::string> Written(const Json& value, const std::string& at) {
    ASSIGN_OR_RETURN(std::string text, Text(value, at));
    written_ += text.size();
    if (written_ > kMaxWritten) {
      return TagTooLarge(at,
                         absl::StrCat("more than ", kMaxWritten, " bytes of fixed text together"));
    }
    return text;
  }

  absl::StatusOr<std::vector<std::string>> Texts(const Json& value, const std::string& at) {
    std::vector<std::string> texts;
    if (!value.is_array() || value.empty())
      return WrongTag(at, "must be an array of at least one string");
    for (size_t i = 0; i < value.size(); ++i) {
      ASSIGN_OR_RETURN(std::string text, Written(value[i], ItemAt(at, i)));
      if (text.empty()) return WrongTag(ItemAt(at, i), "must not be empty");
      texts.push_back(std::move(text));
    }
    return texts;
  }

  static absl::StatusOr<bool> Flag(const Json& format, const std::string& at,
                                   std::string_view name) {
    const Json& value = TagMember(format, name);
    if (value.is_null()) return false;
    if (!value.is_boolean())
      return WrongTag(absl::StrCat(at, ".", ToAbsl(name)), "must be true or false");
    return value.get<bool>();
  }

  /// begin and end; the content is another's matter.
  absl::StatusOr<Tag> ReadTag(const Json& tag, const std::string& at) {
    if (++num_tags_ > kMaxTags)
      return TagTooLarge(at, absl::StrCat("more than ", kMaxTags, " tags"));
    Tag made;
    made.at = at;
    ASSIGN_OR_RETURN(made.begin, Written(TagMember(tag, "begin"), at + ".begin"));
    const Json& end = TagMember(tag, "end");
    if (end.is_array()) {
      ASSIGN_OR_RETURN(made.ends, Texts(end, at + ".end"));
    } else {
      ASSIGN_OR_RETURN(std::string text, Written(end, at + ".end"));
      if (!text.empty()) made.ends.push_back(std::move(text));
    }
    return made;
  }

  absl::StatusOr<Tag> ReadWholeTag(const Json& tag, const std::string& at) {
    if (!tag.is_object()) return WrongTag(at, "must be a tag, an object");
    if (!TagMember(tag, "type").is_null() && tag["type"] != "tag")
      return WrongTag(at + ".type", "must be \"tag\"");
    RETURN_IF_ERROR(OnlyMembers(tag, at + ".", {"type", "begin", "content", "end"}));
    ASSIGN_OR_RETURN(Tag made, ReadTag(tag, at));
    made.content = &TagMember(tag, "content");
    made.content_at = at + ".content";
    return made;
  }

  absl::StatusOr<std::vector<Tag>> ReadTags(const Json& format, const std::string& at) {
    const Json& listed = TagMember(format, "tags");
    if (!listed.is_array() || listed.empty())
      return WrongTag(at + ".tags", "must be an array of at least one tag");
    std::vector<Tag> tags;
    for (size_t i = 0; i < listed.size(); ++i) {
      ASSIGN_OR_RETURN(Tag tag, ReadWholeTag(listed[i], ItemAt(at + ".tags", i)));
      tags.push_back(std::move(tag));
    }
    return tags;
  }

  Expr Spelled(std::string_view text) {
    return text.empty() ? GrammarBuilder::kEmpty : builder_.Terminal(SpelledText(text));
  }

  Expr AnyOf(const std::vector<std::string>& texts) {
    std::vector<Expr> options;
    for (const std::string& text : texts) options.push_back(Spelled(text));
    return options.empty() ? GrammarBuilder::kEmpty : builder_.Choice(std::move(options));
  }

  Expr Ended(Expr expr, const Following& end) {
    return builder_.Sequence({expr, AnyOf(end.texts)});
  }

  /// A tag's content and end.
  absl::StatusOr<Expr> Inside(const Tag& tag, int depth) {
    return Format(*tag.content, tag.content_at, {false, tag.ends}, depth + 1);
  }

  absl::StatusOr<Expr> Whole(const Tag& tag, int depth) {
    ASSIGN_OR_RETURN(const Expr inside, Inside(tag, depth));
    return builder_.Sequence({Spelled(tag.begin), inside});
  }

  absl::StatusOr<Expr> AnyWhole(const std::vector<Tag>& tags, int depth) {
    std::vector<Expr> options;
    for (const Tag& tag : tags) {
      ASSIGN_OR_RETURN(const Expr option, Whole(tag, depth));
      options.push_back(option);
    }
    return builder_.Choice(std::move(options));
  }

  absl::StatusOr<Expr> Part(GrammarSpec spec, const std::string& at) {
    std::vector<std::string> loosened;
    absl::StatusOr<Grammar> made = CompileGrammar(spec, &loosened);
    for (const std::string& one : loosened) {
      if (loosened_ != nullptr) loosened_->push_back(absl::StrCat(at, ": ", one));
    }
    return Embedded(std::move(made), at);
  }

  absl::StatusOr<Expr> Embedded(absl::StatusOr<Grammar> made, const std::string& at) {
    if (!made.ok()) {
      return absl::Status(made.status().code(), absl::StrCat(at, ": ", made.status().message()));
    }
    bytes_ += made->bytes();
    if (bytes_ > kMaxTagBytes) return TagTooLarge(at, "the grammars are too large together");
    return builder_.Embed(std::make_shared<const Grammar>(*std::move(made)));
  }

  /// Free text whose markers are those of `markers`; its ends by index, < 0: the reply's.
  absl::StatusOr<Expr> FreeText(const std::vector<std::string>& markers, int which,
                                const std::string& at) {
    ByteAutomaton automaton = TextUntilMarker(markers, which);
    if (builder_.automata_bytes() + automaton.bytes() > kMaxTagBytes)
      return TagTooLarge(at, "too many texts to look for");
    return which < 0 ? builder_.EndlessTerminal(std::move(automaton))
                     : builder_.Terminal(std::move(automaton));
  }

  static absl::Status CheckMarkers(const std::vector<std::string>& markers, const std::string& at) {
    size_t bytes = 0;
    for (const std::string& marker : markers) bytes += marker.size();
    if (markers.size() > kMaxMarkers || bytes > kMaxMarkerBytes) {
      return TagTooLarge(at, absl::StrCat("more than ", kMaxMarkers, " texts, or ", kMaxMarkerBytes,
                                          " bytes, to look for in free text"));
    }
    for (size_t i = 0; i < markers.size(); ++i) {
      for (size_t j = 0; j < markers.size(); ++j) {
        if (i != j && markers[i].find(markers[j]) != std::string::npos) {
          return WrongTag(at, absl::StrCat("\"", markers[j], "\" lies within \"", markers[i],
                                           "\": free text that goes up to either cannot tell"));
        }
      }
    }
    return absl::OkStatus();
  }

  struct Manner {
    bool at_least_one = false, stop_after_first = false;
  };

  /// Free text, in which a trigger begins one of the tags that begin with it.
  absl::StatusOr<Expr> FreeTextWith(const std::vector<Tag>& tags,
                                    const std::vector<std::string>& triggers,
                                    const std::vector<std::string>& excluded, Manner manner,
                                    const std::string& at, const Following& end, int depth) {
    const std::string place = at.empty() ? root_at_ : at;
    const std::string triggers_at = at.empty()         ? "triggers"
                                    : triggers.empty() ? at
                                                       : at + ".triggers";
    std::vector<std::string> markers = triggers;
    markers.insert(markers.end(), end.texts.begin(), end.texts.end());
    markers.insert(markers.end(), excluded.begin(), excluded.end());
    RETURN_IF_ERROR(CheckMarkers(markers, triggers_at));
    std::vector<std::vector<Expr>> by_trigger(triggers.size());
    std::vector<Expr> whole;
    for (const Tag& tag : tags) {
      size_t found = 0;
      while (found < triggers.size() && !tag.begin.starts_with(triggers[found])) ++found;
      if (found == triggers.size())
        return WrongTag(tag.at + ".begin", "must begin with one of the triggers");
      ASSIGN_OR_RETURN(const Expr inside, Inside(tag, depth));
      const std::string_view rest = std::string_view(tag.begin).substr(triggers[found].size());
      by_trigger[found].push_back(builder_.Sequence({Spelled(rest), inside}));
      whole.push_back(builder_.Sequence({Spelled(tag.begin), inside}));
    }
    std::vector<Expr> turns;
    for (size_t i = 0; i < triggers.size(); ++i) {
      if (by_trigger[i].empty())
        return WrongTag(ItemAt(triggers_at, i), "no tag begins with this trigger");
      ASSIGN_OR_RETURN(const Expr text, FreeText(markers, static_cast<int>(i), place));
      turns.push_back(builder_.Sequence({text, builder_.Choice(std::move(by_trigger[i]))}));
    }
    std::vector<Expr> ends;
    if (end.reply_ends) {
      ASSIGN_OR_RETURN(const Expr text, FreeText(markers, -1, place));
      ends.push_back(text);
    }
    for (size_t i = 0; i < end.texts.size(); ++i) {
      ASSIGN_OR_RETURN(const Expr text,
                       FreeText(markers, static_cast<int>(triggers.size() + i), place));
      ends.push_back(text);
    }
    const bool unlimited = !(manner.at_least_one && manner.stop_after_first);
    if (ends.empty() && unlimited) return NotLast(place);
    if (manner.stop_after_first) {
      const Expr first = Ended(manner.at_least_one ? builder_.Choice(std::move(whole))
                                                   : builder_.Choice(std::move(turns)),
                               end);
      if (manner.at_least_one) return first;
      ends.push_back(first);
      return builder_.Choice(std::move(ends));
    }
    const Expr rest = builder_.Sequence({builder_.Repeat(builder_.Choice(std::move(turns)), 0, -1),
                                         builder_.Choice(std::move(ends))});
    if (!manner.at_least_one) return rest;
    return builder_.Sequence({builder_.Choice(std::move(whole)), rest});
  }

  static absl::Status NotLast(const std::string& at) {
    return WrongTag(at,
                    "free text must be the last of a sequence, or end with the \"end\" of a tag");
  }

  absl::StatusOr<std::vector<std::string>> Excluded(const Json& format, const std::string& at) {
    const Json& value = TagMember(format, "excludes");
    if (value.is_null() || (value.is_array() && value.empty())) return std::vector<std::string>();
    return Texts(value, at + ".excludes");
  }

  absl::StatusOr<Expr> Format(const Json& format, const std::string& at, const Following& end,
                              int depth) {
    if (depth > kMaxTagDepth)
      return TagTooLarge(at, absl::StrCat("deeper than ", kMaxTagDepth, " formats"));
    if (!format.is_object()) return WrongTag(at, "must be a format, an object with a type");
    const Json& type = TagMember(format, "type");
    const std::string kind = type.is_string() ? type.get<std::string>() : "";
    const auto only = [&](std::initializer_list<std::string_view> known) {
      return OnlyMembers(format, at + ".", known);
    };
    if (kind == "any_text") {
      RETURN_IF_ERROR(only({"type", "excludes"}));
      ASSIGN_OR_RETURN(const std::vector<std::string> excluded, Excluded(format, at));
      return FreeTextWith({}, {}, excluded, {}, at, end, depth);
    }
    if (kind == "triggered_tags") {
      RETURN_IF_ERROR(
          only({"type", "triggers", "tags", "at_least_one", "stop_after_first", "excludes"}));
      ASSIGN_OR_RETURN(const std::vector<std::string> triggers,
                       Texts(TagMember(format, "triggers"), at + ".triggers"));
      ASSIGN_OR_RETURN(const std::vector<Tag> tags, ReadTags(format, at));
      ASSIGN_OR_RETURN(const std::vector<std::string> excluded, Excluded(format, at));
      ASSIGN_OR_RETURN(const Manner manner, MannerOf(format, at));
      return FreeTextWith(tags, triggers, excluded, manner, at, end, depth);
    }
    if (kind == "sequence") return InOrder(format, at, end, depth);
    if (kind == "or") {
      ASSIGN_OR_RETURN(const Json* elements, Elements(format, at));
      std::vector<Expr> options;
      for (size_t i = 0; i < elements->size(); ++i) {
        ASSIGN_OR_RETURN(const Expr one,
                         Format((*elements)[i], ItemAt(at + ".elements", i), end, depth + 1));
        options.push_back(one);
      }
      return builder_.Choice(std::move(options));
    }
    ASSIGN_OR_RETURN(const Expr limited, Limited(kind, format, at, depth));
    return Ended(limited, end);
  }

  absl::StatusOr<Expr> InOrder(const Json& format, const std::string& at, const Following& end,
                               int depth) {
    ASSIGN_OR_RETURN(const Json* elements, Elements(format, at));
    std::vector<Expr> parts;
    for (size_t i = 0; i < elements->size(); ++i) {
      const bool last = i + 1 == elements->size();
      ASSIGN_OR_RETURN(const Expr one, Format((*elements)[i], ItemAt(at + ".elements", i),
                                              last ? end : Following{}, depth + 1));
      parts.push_back(one);
    }
    return builder_.Sequence(std::move(parts));
  }

  static absl::StatusOr<const Json*> Elements(const Json& format, const std::string& at) {
    RETURN_IF_ERROR(OnlyMembers(format, at + ".", {"type", "elements"}));
    const Json& elements = TagMember(format, "elements");
    if (!elements.is_array() || elements.empty())
      return WrongTag(at + ".elements", "must be an array of at least one format");
    return &elements;
  }

  static absl::StatusOr<Manner> MannerOf(const Json& format, const std::string& at) {
    Manner manner;
    ASSIGN_OR_RETURN(manner.at_least_one, Flag(format, at, "at_least_one"));
    ASSIGN_OR_RETURN(manner.stop_after_first, Flag(format, at, "stop_after_first"));
    return manner;
  }

  /// Whether a schema's instances are written one argument by another, as Qwen3-Coder does.
  static absl::StatusOr<bool> IsXml(const Json& format, const std::string& at) {
    const Json& style = TagMember(format, "style");
    if (format["type"] == "qwen_xml_parameter" || style == "qwen_xml") return true;
    if (style.is_null() || style == "json") return false;
    return WrongTag(at + ".style", "must be \"json\" or \"qwen_xml\"");
  }

  /// Formats that end by themselves.
  absl::StatusOr<Expr> Limited(const std::string& kind, const Json& format, const std::string& at,
                               int depth) {
    const auto only = [&](std::initializer_list<std::string_view> known) {
      return OnlyMembers(format, at + ".", known);
    };
    GrammarSpec spec;
    if (kind == "const_string") {
      RETURN_IF_ERROR(only({"type", "value"}));
      ASSIGN_OR_RETURN(const std::string text, Written(TagMember(format, "value"), at + ".value"));
      return Spelled(text);
    }
    if (kind == "json_schema" || kind == "qwen_xml_parameter") {
      // The older form's schema has a name of its own.
      const char* name = format.contains("schema") ? "schema" : "json_schema";
      RETURN_IF_ERROR(only({"type", name, "style"}));
      ASSIGN_OR_RETURN(const bool one_by_one, IsXml(format, at));
      const std::string schema_at = absl::StrCat(at, ".", name);
      const Json& schema = TagMember(format, name);
      if (!schema.is_object() && !schema.is_boolean())
        return WrongTag(schema_at, "must be a JSON Schema");
      if (one_by_one)
        return Embedded(CompileTaggedArguments(schema.dump(), schema_at, loosened_), schema_at);
      spec.form = GrammarSpec::Form::kJsonSchema;
      spec.text = schema.dump();
      return Part(std::move(spec), schema_at);
    }
    if (kind == "regex" || kind == "grammar") {
      const char* name = kind == "regex" ? "pattern" : "grammar";
      RETURN_IF_ERROR(only({"type", name}));
      const std::string text_at = absl::StrCat(at, ".", name);
      ASSIGN_OR_RETURN(spec.text, Text(TagMember(format, name), text_at));
      spec.form = kind == "regex" ? GrammarSpec::Form::kRegex : FormOfGrammar(spec.text);
      return Part(std::move(spec), text_at);
    }
    if (kind == "tag") {
      ASSIGN_OR_RETURN(const Tag tag, ReadWholeTag(format, at));
      return Whole(tag, depth);
    }
    if (kind == "tags_with_separator") {
      RETURN_IF_ERROR(only({"type", "tags", "separator", "at_least_one", "stop_after_first"}));
      ASSIGN_OR_RETURN(const std::string separator,
                       Written(TagMember(format, "separator"), at + ".separator"));
      ASSIGN_OR_RETURN(const std::vector<Tag> tags, ReadTags(format, at));
      ASSIGN_OR_RETURN(const Manner manner, MannerOf(format, at));
      ASSIGN_OR_RETURN(const Expr one, AnyWhole(tags, depth));
      const Expr more = builder_.Repeat(builder_.Sequence({Spelled(separator), one}), 0, -1);
      const Expr some = manner.stop_after_first ? one : builder_.Sequence({one, more});
      return manner.at_least_one ? some : builder_.Optional(some);
    }
    return WrongTag(at + ".type",
                    "must be one of const_string, json_schema, qwen_xml_parameter, regex, grammar, "
                    "any_text, sequence, or, tag, triggered_tags, tags_with_separator");
  }

  std::vector<std::string>* const loosened_;  // may be null
  GrammarBuilder builder_;
  std::string root_at_;
  std::vector<Json> contents_;
  size_t num_tags_ = 0, bytes_ = 0, written_ = 0;
};

}  // namespace

absl::StatusOr<Grammar> CompileStructuralTag(const Json& tag, std::vector<std::string>* loosened) {
  return TagCompiler(loosened).Compile(tag);
}

}  // namespace penstock::grammar
