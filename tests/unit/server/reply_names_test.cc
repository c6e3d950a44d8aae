// The configuration names the formats that replies are read by: those that there are.
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "config/schema.h"
#include "text/reply/reply_format.h"

namespace penstock {
namespace {

std::vector<std::string_view> ChoicesOf(std::string_view name) {
  ModelEntry entry;
  const ConfigSection model = DescribeModel(entry);
  for (const ConfigField& field : model.fields) {
    if (field.name == name) return field.choices;
  }
  return {};
}

template <class Formats>
std::vector<std::string_view> NamesOf(const Formats& formats) {
  std::vector<std::string_view> names = {"auto", "none"};
  for (const auto& format : formats) names.push_back(format.name);
  return names;
}

TEST(ReplyNames, OfTheConfigurationAreTheFormats) {
  EXPECT_EQ(ChoicesOf("tool_parser"), NamesOf(CallFormats()));
  EXPECT_EQ(ChoicesOf("reasoning_parser"), NamesOf(ReasoningFormats()));
}

}  // namespace
}  // namespace penstock
