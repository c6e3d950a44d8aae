// Which texts a structural tag allows, for grammar_texts.py to hold against others. Reads lines
// {"tag": the tag, "texts": [...]} and answers each by {"matches": [...]} or {"error": why}.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "text/grammar/matcher.h"
#include "text/grammar/structural_tag.h"

int main() {
  using Json = nlohmann::ordered_json;
  for (std::string line; std::getline(std::cin, line);) {
    const Json work = Json::parse(line);
    auto made = penstock::grammar::CompileStructuralTag(work["tag"], nullptr);
    Json answer;
    if (made.ok()) {
      const auto grammar = std::make_shared<const penstock::grammar::Grammar>(*std::move(made));
      answer["matches"] = Json::array();
      for (const Json& text : work["texts"]) {
        penstock::grammar::Matcher matcher(grammar);
        answer["matches"].push_back(matcher.Accept(text.get_ref<const std::string&>()) &&
                                    matcher.finished());
      }
    } else {
      answer["error"] = std::string(made.status().message());
    }
    std::cout << answer.dump() << std::endl;
  }
  return 0;
}
