// A JSON Schema from anywhere: an error, or a grammar that the matcher can follow.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "text/grammar/json_schema.h"
#include "walk_grammar.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace penstock::grammar;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto schema = nlohmann::ordered_json::parse(text, nullptr, false);
  if (schema.is_discarded()) return 0;
  auto made = CompileJsonSchema(schema, {});
  if (!made.ok()) return 0;
  WalkGrammar(*std::move(made), data, size);
  return 0;
}
