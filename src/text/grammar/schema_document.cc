#include "text/grammar/schema_document.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock::grammar {
namespace {

using Json = nlohmann::ordered_json;

/// The keywords that not all drafts have.
struct KeywordDrafts {
  std::string_view keyword;
  Draft first, last;
};
constexpr KeywordDrafts kKeywordDrafts[] = {
    {"const", Draft::k6, Draft::k2020},
    {"contains", Draft::k6, Draft::k2020},
    {"propertyNames", Draft::k6, Draft::k2020},
    {"if", Draft::k7, Draft::k2020},
    {"$anchor", Draft::k2019, Draft::k2020},
    {"dependentRequired", Draft::k2019, Draft::k2020},
    {"dependentSchemas", Draft::k2019, Draft::k2020},
    {"maxContains", Draft::k2019, Draft::k2020},
    {"minContains", Draft::k2019, Draft::k2020},
    {"unevaluatedItems", Draft::k2019, Draft::k2020},
    {"unevaluatedProperties", Draft::k2019, Draft::k2020},
    {"$dynamicAnchor", Draft::k2020, Draft::k2020},
    {"$dynamicRef", Draft::k2020, Draft::k2020},
    {"prefixItems", Draft::k2020, Draft::k2020},
    {"dependencies", Draft::k4, Draft::k7},
    {"$recursiveRef", Draft::k2019, Draft::k2019},
};

/// RFC 3986, section 5.2, without dot segments.
std::string JoinUri(std::string_view base, std::string_view reference) {
  const size_t colon = reference.find_first_of(":/?#");
  if (colon != std::string_view::npos && reference[colon] == ':') return std::string(reference);
  const size_t scheme = base.find("://");
  if (scheme == std::string_view::npos) return std::string(reference);
  if (reference.starts_with("//"))
    return absl::StrCat(ToAbsl(base.substr(0, scheme + 1)), ToAbsl(reference));
  const size_t path = std::min(base.find('/', scheme + 3), base.size());
  if (reference.starts_with('/'))
    return absl::StrCat(ToAbsl(base.substr(0, path)), ToAbsl(reference));
  const size_t last = base.rfind('/');
  if (last < path || last == std::string_view::npos)
    return absl::StrCat(ToAbsl(base), "/", ToAbsl(reference));
  return absl::StrCat(ToAbsl(base.substr(0, last + 1)), ToAbsl(reference));
}

std::string Unescaped(std::string_view step) {
  std::string out;
  for (size_t i = 0; i < step.size(); ++i) {
    int code = 0;
    if (step[i] == '%' && i + 2 < step.size() &&
        absl::SimpleHexAtoi(ToAbsl(step.substr(i + 1, 2)), &code)) {
      out.push_back(static_cast<char>(code));
      i += 2;
    } else {
      out.push_back(step[i]);
    }
  }
  return absl::StrReplaceAll(out, {{"~1", "/"}, {"~0", "~"}});
}

std::string Step(std::string_view key) {
  return absl::StrCat("/", absl::StrReplaceAll(ToAbsl(key), {{"~", "~0"}, {"/", "~1"}}));
}

absl::StatusOr<Draft> DraftOf(const Json& root) {
  if (!root.is_object()) return Draft::k2020;
  const auto found = root.find("$schema");
  if (found == root.end() || !found->is_string()) return Draft::k2020;
  const std::string& uri = found->get_ref<const std::string&>();
  if (uri.find("draft-04") != std::string::npos) return Draft::k4;
  if (uri.find("draft-06") != std::string::npos) return Draft::k6;
  if (uri.find("draft-07") != std::string::npos) return Draft::k7;
  if (uri.find("2019-09") != std::string::npos) return Draft::k2019;
  if (uri.find("2020-12") != std::string::npos) return Draft::k2020;
  if (uri.find("draft-03") != std::string::npos || uri.find("draft-02") != std::string::npos)
    return absl::InvalidArgumentError(
        "#/$schema: drafts before 4 are not supported, the oldest is draft-04");
  return Draft::k2020;  // a dialect of one's own
}

/// Null where it has none.
const std::string* DynamicAnchorOf(const Json& schema) {
  if (!schema.is_object()) return nullptr;
  const auto found = schema.find("$dynamicAnchor");
  return found == schema.end() ? nullptr : found->get_ptr<const std::string*>();
}

bool IsRecursiveAnchor(const Json& schema) {
  if (!schema.is_object()) return false;
  const auto found = schema.find("$recursiveAnchor");
  return found != schema.end() && *found == true;
}

}  // namespace

const Json* SchemaDocument::Find(const Json& schema, const char* keyword) const {
  const auto found = schema.find(keyword);
  if (found == schema.end()) return nullptr;
  for (const auto& [name, first, last] : kKeywordDrafts) {
    if (name == keyword) return draft_ >= first && draft_ <= last ? &*found : nullptr;
  }
  return &*found;
}

absl::StatusOr<SchemaDocument> SchemaDocument::Make(const Json& root) {
  SchemaDocument out;
  ASSIGN_OR_RETURN(out.draft_, DraftOf(root));
  out.by_uri_.emplace("", &root);
  RETURN_IF_ERROR(out.Index(root, "", "", 0, true));
  out.Add(root, false, "", out.places_[&root].second);
  return out;
}

absl::Status SchemaDocument::Index(const Json& json, const std::string& path, std::string base,
                                   int depth, bool is_schema) {
  if (depth > kMaxDepth)
    return absl::InvalidArgumentError(
        absl::StrCat("#", path, ": the schema is nested deeper than ", kMaxDepth, " levels"));
  if (++num_values_ > kMaxValues)
    return absl::InvalidArgumentError(
        absl::StrCat("#: the schema has more than ", kMaxValues, " values"));
  path_bytes_ += path.size() + base.size();
  if (path_bytes_ > kMaxPathBytes)
    return absl::InvalidArgumentError("#: the paths of the schema's values are too long together");
  if (json.is_array()) {
    places_[&json] = {path, base};
    for (size_t i = 0; i < json.size(); ++i)
      RETURN_IF_ERROR(Index(json[i], absl::StrCat(path, "/", i), base, depth + 1, is_schema));
    return absl::OkStatus();
  }
  if (!json.is_object()) return absl::OkStatus();
  if (is_schema) {
    const auto id = json.find(draft_ == Draft::k4 ? "id" : "$id");
    const bool ignored = draft_ <= Draft::k7 && json.contains("$ref");  // as all beside it
    if (id != json.end() && id->is_string() && !ignored) {
      const std::string& uri = id->get_ref<const std::string&>();
      const size_t hash = uri.find('#');
      const std::string own = uri.substr(0, hash);
      if (!own.empty()) {
        base = JoinUri(base, own);
        by_uri_.emplace(base, &json);
      }
      if (hash != std::string::npos && hash + 1 < uri.size())
        by_uri_.emplace(absl::StrCat(base, uri.substr(hash)), &json);
    }
    for (const char* keyword : {"$anchor", "$dynamicAnchor"}) {
      const Json* anchor = Find(json, keyword);
      if (anchor != nullptr && anchor->is_string())
        by_uri_.emplace(absl::StrCat(base, "#", anchor->get_ref<const std::string&>()), &json);
    }
    if (const std::string* name = DynamicAnchorOf(json)) ++dynamic_anchors_[*name];
    num_recursive_anchors_ += IsRecursiveAnchor(json) ? 1 : 0;
  }
  places_[&json] = {path, base};
  for (const auto& [key, value] : json.items()) {
    // The members of these are values; of those, schemas by names that mean nothing.
    const bool values = is_schema && (key == "enum" || key == "const" || key == "default" ||
                                      key == "examples" || key == "example");
    const bool names =
        is_schema && (key == "properties" || key == "patternProperties" || key == "$defs" ||
                      key == "definitions" || key == "dependentSchemas" || key == "dependencies");
    const std::string at = absl::StrCat(path, Step(key));
    if (!names || !value.is_object()) {
      RETURN_IF_ERROR(Index(value, at, base, depth + 1, is_schema && !values));
      continue;
    }
    places_[&value] = {at, base};
    for (const auto& [name, schema] : value.items())
      RETURN_IF_ERROR(Index(schema, absl::StrCat(at, Step(name)), base, depth + 2, true));
  }
  return absl::OkStatus();
}

int32_t SchemaDocument::Add(const Json& json, bool is_value, std::string path, std::string base) {
  const auto [it, added] =
      by_json_[is_value ? 1 : 0].try_emplace(&json, static_cast<int32_t>(nodes_.size()));
  if (added) nodes_.push_back({&json, is_value, std::move(path), std::move(base)});
  return it->second;
}

int32_t SchemaDocument::Child(int32_t parent, const Json& json, std::string_view steps) {
  const auto place = places_.find(&json);
  if (place != places_.end()) return Add(json, false, place->second.first, place->second.second);
  return Add(json, false, absl::StrCat(nodes_[parent].path, "/", ToAbsl(steps)),
             nodes_[parent].base);
}

int32_t SchemaDocument::Value(int32_t parent, const Json& json, std::string_view steps) {
  return Add(json, true, absl::StrCat(nodes_[parent].path, "/", ToAbsl(steps)),
             nodes_[parent].base);
}

absl::StatusOr<int32_t> SchemaDocument::Resolve(int32_t from, std::string_view reference) {
  const SchemaNode& node = nodes_[from];
  const auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("#", node.path, "/$ref: \"", ToAbsl(reference), "\" ", ToAbsl(why)));
  };
  const size_t hash = std::min(reference.find('#'), reference.size());
  const std::string uri = hash == 0 ? node.base : JoinUri(node.base, reference.substr(0, hash));
  const std::string_view fragment =
      hash < reference.size() ? reference.substr(hash + 1) : std::string_view();
  auto found = by_uri_.find(uri);
  if (found == by_uri_.end()) return refuse("is not in this document; others are not fetched");
  if (!fragment.empty() && fragment[0] != '/') {
    found = by_uri_.find(absl::StrCat(uri, "#", ToAbsl(fragment)));
    if (found == by_uri_.end()) return refuse("names no anchor of this document");
    return Child(from, *found->second, "$ref");
  }
  const Json* at = found->second;
  for (size_t begin = 0; begin < fragment.size();) {
    const size_t end = std::min(fragment.find('/', begin + 1), fragment.size());
    const std::string step = Unescaped(fragment.substr(begin + 1, end - begin - 1));
    begin = end;
    size_t index = 0;
    if (at->is_object() && at->contains(step)) {
      at = &(*at)[step];
    } else if (at->is_array() && absl::SimpleAtoi(step, &index) && index < at->size()) {
      at = &(*at)[index];
    } else {
      return refuse("points at nothing");
    }
  }
  if (!at->is_object() && !at->is_boolean()) return refuse("points at no schema");
  return Child(from, *at, "$ref");
}

bool SchemaDocument::IsOverridable(std::string_view keyword, std::string_view reference,
                                   int32_t to) const {
  const Json& schema = *nodes_[to].json;
  if (keyword == "$recursiveRef") return num_recursive_anchors_ > 1 && IsRecursiveAnchor(schema);
  if (keyword != "$dynamicRef") return false;
  const std::string* name = DynamicAnchorOf(schema);
  if (name == nullptr || !reference.ends_with("#" + *name)) return false;
  const auto found = dynamic_anchors_.find(*name);
  return found != dynamic_anchors_.end() && found->second > 1;
}

}  // namespace penstock::grammar
