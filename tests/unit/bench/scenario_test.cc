#include "bench/scenario.h"

#include <filesystem>
#include <fstream>

#include "fakes/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

TEST(Scenario, LoadsEveryFileOfTheRepository) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(PENSTOCK_SOURCE_DIR "/benchmarks/serving")) {
    if (entry.path().extension() != ".yaml") continue;
    const auto loaded = LoadScenarios(entry.path().string());
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    ++count;
  }
  EXPECT_GT(count, 0);
}

TEST(Scenario, NamesAreOfOneScenarioEach) {
  const TempDir dir;
  const std::string path = dir.path() + "/s.yaml";
  const auto problem = [&](const char* text) {
    std::ofstream(path) << text;
    return std::string(LoadScenarios(path).status().message());
  };
  EXPECT_EQ(problem("[{name: a}, {name: b}]"), "");
  EXPECT_THAT(problem("[{name: a}, {name: b}, {name: a, rate: 2}]"),
              HasSubstr("name: 'a' is that"));
  EXPECT_THAT(problem("[{rate: 1}, {rate: 2}]"), HasSubstr("name: 'default' is that of two"));
}

TEST(Scenario, NamesAnUnknownKey) {
  Scenario scenario;
  EXPECT_EQ(std::string(SetScenarioField(scenario, "concurency", "3").message()),
            "concurency: unknown key, did you mean 'concurrency'?");
  for (const char* value : {"fast", "-1", "nan", "inf", ""}) {
    EXPECT_THAT(std::string(SetScenarioField(scenario, "rate", value).message()),
                HasSubstr("rate: expected a number from 0"))
        << value;
  }
  EXPECT_FALSE(SetScenarioField(scenario, "seed", "-3").ok());
  EXPECT_FALSE(SetScenarioField(scenario, "endpoint", "images").ok());
}

TEST(Scenario, NamesKeysThatContradictEachOther) {
  const auto problem = [](std::initializer_list<std::pair<const char*, const char*>> keys) {
    Scenario scenario;
    for (const auto& [key, value] : keys)
      EXPECT_TRUE(SetScenarioField(scenario, key, value).ok()) << key;
    return std::string(CheckScenario(scenario).message());
  };
  EXPECT_EQ(problem({}), "");
  EXPECT_THAT(problem({{"turns", "2"}}), HasSubstr("turns: expected endpoint: chat"));
  EXPECT_THAT(problem({{"turns", "2"}, {"endpoint", "chat"}, {"rate", "1"}}), HasSubstr("turns"));
  EXPECT_THAT(problem({{"trace", "x.csv"}, {"rate", "2"}}), HasSubstr("rate"));
  EXPECT_THAT(problem({{"burst", "4"}}), HasSubstr("burst"));
  EXPECT_THAT(problem({{"rate_end", "4"}}), HasSubstr("rate_end"));
  EXPECT_THAT(problem({{"burstiness", "0"}}), HasSubstr("burstiness"));
}

}  // namespace
}  // namespace penstock
