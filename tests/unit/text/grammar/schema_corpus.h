// Schemas with instances: the shared corpus, and instances as Python's json.dumps writes them.
// Owns nothing. Must not know how grammars work.
// Threads: n/a.
#pragma once

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace penstock::grammar {

struct SchemaCase {
  std::string id;
  nlohmann::ordered_json schema;
  struct Test {
    bool valid = false;
    nlohmann::ordered_json data;
  };
  std::vector<Test> tests;  // without those whose label is not to be trusted
};

/// Empty where the shared data is absent. Only schemas that have tests.
inline std::vector<SchemaCase> ReadSchemaCorpus() {
  using Json = nlohmann::ordered_json;
  const std::string folder = std::string(PENSTOCK_SHARED_DATA) + "/schemas/";
  std::vector<SchemaCase> cases;
  std::ifstream labels(folder + "label_disagreements_python_jsonschema_4.10.json");
  if (!labels.good()) return cases;
  std::set<std::pair<std::string, size_t>> wrong;
  for (const Json& row : Json::parse(labels)) wrong.emplace(row[0], row[1]);
  for (const char* name : {"Github_trivial", "Github_easy", "Glaiveai2K", "Handwritten"}) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(
        popen(("gzip -dc '" + folder + name + ".jsonl.gz'").c_str(), "r"), pclose);
    std::string text;
    char buffer[1 << 16];
    for (size_t n; pipe && (n = std::fread(buffer, 1, sizeof(buffer), pipe.get())) > 0;)
      text.append(buffer, n);
    for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      Json row = Json::parse(text.substr(begin, end - begin));
      if (!row["tests"].is_array() || row["tests"].empty()) continue;
      SchemaCase& made = cases.emplace_back();
      made.id = row["id"];
      made.schema = std::move(row["schema"]);
      for (size_t i = 0; i < row["tests"].size(); ++i) {
        if (wrong.count({made.id, i}) > 0) continue;
        made.tests.push_back({row["tests"][i]["valid"], std::move(row["tests"][i]["data"])});
      }
    }
  }
  return cases;
}

/// Puts the members of `value` in the order in which the schema lists them, others last.
class InstanceOrder {
 public:
  using Json = nlohmann::ordered_json;

  explicit InstanceOrder(const Json& root) : root_(root) {}
  Json Ordered(const Json& value) const { return Ordered(value, Expanded({&root_})); }

 private:
  const Json* Target(const std::string& reference) const {
    if (!reference.starts_with('#')) return nullptr;
    try {
      return &root_.at(nlohmann::json_pointer<std::string>(reference.substr(1)));
    } catch (const nlohmann::json::exception&) {
      return nullptr;
    }
  }

  std::vector<const Json*> Expanded(const std::vector<const Json*>& schemas) const {
    std::vector<const Json*> out;
    for (const Json* s : schemas) Expand(s, out);
    return out;
  }

  void Expand(const Json* s, std::vector<const Json*>& out) const {
    if (s == nullptr || !s->is_object() || std::find(out.begin(), out.end(), s) != out.end())
      return;
    out.push_back(s);
    if (s->contains("$ref") && (*s)["$ref"].is_string()) Expand(Target((*s)["$ref"]), out);
    for (const char* list : {"allOf", "anyOf", "oneOf"}) {
      if (!s->contains(list) || !(*s)[list].is_array()) continue;
      for (const Json& one : (*s)[list]) Expand(&one, out);
    }
    for (const char* one : {"if", "then", "else", "not"}) {
      if (s->contains(one)) Expand(&(*s)[one], out);
    }
    for (const char* map : {"dependentSchemas", "dependencies"}) {
      if (!s->contains(map) || !(*s)[map].is_object()) continue;
      for (const Json& one : (*s)[map]) Expand(&one, out);
    }
  }

  Json Ordered(const Json& value, const std::vector<const Json*>& schemas) const {
    if (value.is_array()) {
      std::vector<const Json*> below;
      for (const Json* s : schemas) {
        for (const char* keyword : {"items", "prefixItems", "additionalItems", "contains"}) {
          if (!s->contains(keyword)) continue;
          const Json& items = (*s)[keyword];
          if (!items.is_array()) below.push_back(&items);
          for (size_t i = 0; items.is_array() && i < items.size(); ++i) below.push_back(&items[i]);
        }
      }
      below = Expanded(below);
      Json out = Json::array();
      for (const Json& item : value) out.push_back(Ordered(item, below));
      return out;
    }
    if (!value.is_object()) return value;
    std::vector<std::string> names;
    for (const Json* s : schemas) {
      if (!s->contains("properties") || !(*s)["properties"].is_object()) continue;
      for (const auto& [key, one] : (*s)["properties"].items()) names.push_back(key);
    }
    for (const auto& [key, one] : value.items()) names.push_back(key);
    Json out = Json::object();
    for (const std::string& name : names) {
      if (!value.contains(name) || out.contains(name)) continue;
      std::vector<const Json*> below;
      for (const Json* s : schemas) {
        if (s->contains("properties") && (*s)["properties"].contains(name))
          below.push_back(&(*s)["properties"][name]);
        if (s->contains("additionalProperties")) below.push_back(&(*s)["additionalProperties"]);
        if (!s->contains("patternProperties")) continue;
        for (const Json& one : (*s)["patternProperties"]) below.push_back(&one);
      }
      out[name] = Ordered(value[name], Expanded(below));
    }
    return out;
  }

  const Json& root_;
};

/// json.dumps(value), or with separators=(",", ":").
inline std::string PythonJson(const nlohmann::ordered_json& value, bool compact) {
  const std::string comma = compact ? "," : ", ";
  std::string out;
  if (value.is_array()) {
    for (const auto& item : value) out += (out.empty() ? "" : comma) + PythonJson(item, compact);
    return "[" + out + "]";
  }
  if (!value.is_object()) return value.dump(-1, ' ', true);
  for (const auto& [key, member] : value.items()) {
    out += (out.empty() ? "" : comma) + nlohmann::ordered_json(key).dump(-1, ' ', true) +
           (compact ? ":" : ": ") + PythonJson(member, compact);
  }
  return "{" + out + "}";
}

}  // namespace penstock::grammar
