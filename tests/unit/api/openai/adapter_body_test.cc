// Bodies that load and unload adapters: read where they lie, with the values and the words that
// reading them from a tree gives.
#include "api/openai/adapter_body.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/call_error.h"
#include "service/json_body.h"
#include "test_seed.h"

namespace penstock {
namespace {

using AdapterTree = nlohmann::ordered_json;

/// The same by a tree.
absl::StatusOr<AdapterBody> OfTree(const std::string& text, bool loads) {
  const absl::StatusOr<AdapterTree> tree = ParseWireJson(text);
  if (!tree.ok()) return tree.status();
  if (!tree->is_object()) return absl::InvalidArgumentError("the body must be a JSON object");
  AdapterBody out;
  for (const auto& [field, needed] : {std::pair("lora_name", true), std::pair("lora_path", loads),
                                      std::pair("base_model_name", false)}) {
    const AdapterTree value = tree->contains(field) ? tree->at(field) : AdapterTree();
    if (value.is_null()) {
      if (needed) return InvalidField(field, absl::StrCat(field, " is missing"));
      continue;
    }
    if (!value.is_string()) return WithField(WrongJsonType(field, "a string", value), field);
    if (field == std::string("lora_name")) out.name = value;
    if (field == std::string("lora_path")) out.path = value;
    if (field == std::string("base_model_name")) out.base = value.get<std::string>();
  }
  if (const AdapterTree value = tree->value("load_inplace", AdapterTree()); !value.is_null()) {
    if (!value.is_boolean())
      return WithField(WrongJsonType("load_inplace", "true or false", value), "load_inplace");
    out.in_place = value;
  }
  return out;
}

void ExpectSameBody(const std::string& text) {
  for (const bool loads : {true, false}) {
    const absl::StatusOr<AdapterBody> read = ReadAdapterBody(text, loads);
    const absl::StatusOr<AdapterBody> tree = OfTree(text, loads);
    ASSERT_EQ(read.status(), tree.status()) << text;
    if (!read.ok()) continue;
    EXPECT_EQ(read->name, tree->name) << text;
    EXPECT_EQ(read->path, tree->path) << text;
    EXPECT_EQ(read->base, tree->base) << text;
    EXPECT_EQ(read->in_place, tree->in_place) << text;
  }
}

TEST(AdapterBody, IsReadAsATreeIs) {
  const std::string values[] = {
      "null",  "true", "false", "7",   "1.5e3",       R"("a")",   R"("\u00e9\ud83d\ude00")",
      R"("")", "[]",   "{}",    "nul", R"("\ud800")", "{\"a\":1}"};
  const std::string names[] = {"lora_name", "lora_path", "base_model_name", "load_inplace",
                               "other"};
  for (const char* text : {"", "[]", "7", "{", "{}", "null", "{\"lora_name\":\"a\"}x", "\xFF"})
    ExpectSameBody(text);
  std::mt19937_64 random(TestSeed());
  int num_read = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = "{";
    for (const std::string& name : names) {
      for (uint64_t times = random() % 8; times < 6; times += 3) {  // some twice
        // Mostly what fits.
        const std::string value = random() % 3 != 0 ? (name == "load_inplace" ? "true" : R"("x")")
                                                    : values[random() % std::size(values)];
        absl::StrAppend(&text, text.size() == 1 ? "" : ",", "\"", name, "\":", value);
      }
    }
    text += "}";
    ExpectSameBody(text);
    num_read += ReadAdapterBody(text, false).ok() ? 1 : 0;
  }
  EXPECT_GT(num_read, 200);
  EXPECT_LT(num_read, 4800);
}

}  // namespace
}  // namespace penstock
