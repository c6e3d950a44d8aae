#include "model/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace penstock {
namespace {

TEST(ConfigReader, KeepsTheFirstProblem) {
  const nlohmann::json json = {{"a", "x"}, {"b", 1.5}, {"c", nullptr}, {"d", 3.0}};
  ConfigReader reader(json, "config.json");
  EXPECT_EQ(reader.Int("d", std::nullopt, 0, 10), 3);
  EXPECT_EQ(reader.Int("c", 7, 0, 10), 7);
  EXPECT_TRUE(reader.status().ok());
  reader.Int("b", std::nullopt, 0, 10);
  reader.Number("a", std::nullopt, 0, 10);
  EXPECT_THAT(reader.status().ToString(),
              ::testing::HasSubstr("config.json: b: expected a whole number"));
}

}  // namespace
}  // namespace penstock
