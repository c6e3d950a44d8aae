// The configuration's JSON Schema, for editors and for what writes such files.
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "base/strings.h"
#include "config/config_diff.h"
#include "config/schema.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

/// Any text: to YAML 1 and true are no strings.
Json Scalar() { return {{"type", Json::array({"string", "number", "boolean"})}}; }

Json TypeOf(const ConfigField& field) {
  struct Visitor {
    const ConfigField& field;
    Json operator()(const bool*) const { return {{"type", "boolean"}}; }
    Json operator()(const int32_t*) const {
      return {{"type", "integer"}, {"minimum", field.min}, {"maximum", field.max}};
    }
    Json operator()(const double*) const {
      return {{"type", "number"}, {"minimum", 0.05}, {"maximum", 1}};
    }
    Json operator()(const Share*) const {
      return {{"type", Json::array({"string", "number"})},
              {"pattern", "^[0-9]*\\.?[0-9]+%?$"},
              {"minimum", 0},
              {"maximum", 1}};
    }
    Json operator()(const Count*) const {
      return {{"type", Json::array({"string", "integer"})},
              {"pattern", "^[0-9]+[kMG]?$"},
              {"minimum", 0}};
    }
    Json operator()(const std::string*) const {
      if (field.choices.empty()) return Scalar();
      Json out = Json::object();
      for (const std::string_view choice : field.choices) {
        out["enum"].push_back(std::string(choice));
        if (double number = 0; absl::SimpleAtod(ToAbsl(choice), &number))
          out["enum"].push_back(number);  // as YAML reads it without quotes
      }
      return out;
    }
    Json operator()(const Bytes*) const {
      return {{"type", Json::array({"string", "integer"})},
              {"pattern", "^(auto|[0-9]+(B|KiB|MiB|GiB|TiB)?)$"},
              {"minimum", 0}};
    }
    Json operator()(const absl::Duration*) const {
      return {{"type", Json::array({"string", "integer"})},
              {"pattern", "^(0|([0-9]*\\.?[0-9]+(ns|us|ms|s|m|h))+)$"},
              {"minimum", 0},
              {"maximum", 0}};
    }
    Json operator()(const std::vector<std::string>*) const {
      Json out = Scalar();
      out["type"].push_back("array");
      out["items"] = Scalar();
      return out;
    }
    Json operator()(const std::map<std::string, std::vector<std::string>>*) const {
      Json list = Scalar();
      list["type"].push_back("array");
      list["items"] = Scalar();
      return {{"type", "object"}, {"additionalProperties", std::move(list)}};
    }
    Json operator()(const std::map<std::string, std::string>*) const {
      return {{"type", Json::array({"object", "string"})}, {"additionalProperties", Scalar()}};
    }
  };
  return std::visit(Visitor{field}, field.ref);
}

Json ObjectOf(const ConfigSection& section) {
  Json out = {{"type", Json::array({"object", "null"})}};
  if (!section.doc.empty()) out["description"] = std::string(section.doc);
  out["properties"] = Json::object();
  for (const ConfigField& field : section.fields) {
    Json described = TypeOf(field);
    described["description"] = std::string(field.doc);
    out["properties"][std::string(field.name)] = std::move(described);
  }
  for (const ConfigSection& sub : section.sections)
    out["properties"][std::string(sub.name)] = ObjectOf(sub);
  for (const ConfigEntries& entries : section.entries) {
    Json all = {{"description", std::string(entries.doc)}};
    all["type"] = Json::array({entries.has_names ? "object" : "array", "null"});
    all[entries.has_names ? "additionalProperties" : "items"] = ObjectOf(entries.add("name"));
    out["properties"][std::string(entries.name)] = std::move(all);
  }
  out["additionalProperties"] = false;
  return out;
}

}  // namespace

std::string ConfigJsonSchema() {
  ServerConfig config;
  ModelEntry model;
  Json out = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
              {"title", "Penstock's configuration"}};
  out.update(ObjectOf(DescribeServer(config)));
  out["properties"]["models"] = {{"type", Json::array({"object", "null"})},
                                 {"additionalProperties", ObjectOf(DescribeModel(model))}};
  return out.dump(2) + "\n";
}

}  // namespace penstock
