// What structural tags are written with.
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "text/grammar/reply_grammar.h"
#include "text/grammar/structural_tag.h"

namespace penstock::grammar {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostLevels = 64;  // twice as many as formats may be nested

void CollectWritings(const Json& value, int depth, std::vector<std::string>& writings) {
  if (depth > kMostLevels) return;
  if (value.is_array()) {
    for (const Json& one : value) CollectWritings(one, depth + 1, writings);
  }
  if (!value.is_object()) return;
  const auto says = [&](const char* name, const char* word) {
    const auto found = value.find(name);
    return found != value.end() && *found == word;
  };
  if (says("type", "qwen_xml_parameter") || says("style", "qwen_xml")) {
    for (std::string& one : WritingsOfTaggedArguments()) writings.push_back(std::move(one));
  }
  static const auto& names =
      *new std::set<std::string_view>{"begin", "end", "value", "separator", "triggers"};
  for (const auto& [name, of] : value.items()) {
    if (name == "schema" || name == "json_schema") continue;
    if (!names.contains(name)) {
      CollectWritings(of, depth + 1, writings);
    } else if (of.is_string()) {
      writings.push_back(of.get<std::string>());
    } else if (of.is_array()) {
      for (const Json& one : of) {
        if (one.is_string()) writings.push_back(one.get<std::string>());
      }
    }
  }
}

}  // namespace

std::vector<std::string> WritingsOf(const Json& tag) {
  std::vector<std::string> writings;
  CollectWritings(tag, 0, writings);
  return writings;
}

}  // namespace penstock::grammar
