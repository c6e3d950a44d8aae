#include "metrics/exposition.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(Exposition, BoundsAreWrittenAsPythonsClientDoes) {
  // Right: floatToGoString of prometheus_client 0.21.
  const std::pair<const char*, const char*> cases[] = {
      {"1", "1.0"},
      {"10", "10.0"},
      {"0.25", "0.25"},
      {"2.5", "2.5"},
      {"1e-05", "1e-05"},
      {"0.00025", "0.00025"},
      {"500000", "500000.0"},
      {"1000000", "1e+06"},
      {"2000000", "2e+06"},
      {"10000000", "1e+07"},
      {"1048576", "1.048576e+06"},
      {"+Inf", "+Inf"},
  };
  for (const auto& [cpp, python] : cases) {
    const std::string begin = "a_bucket{model=\"m\",le=\"";
    EXPECT_EQ(WithPythonBounds(begin + cpp + "\"} 5\n"), begin + python + "\"} 5\n");
  }
  EXPECT_EQ(WithPythonBounds("a_bucket{le=\"1\"} 1e+06\n"), "a_bucket{le=\"1.0\"} 1e+06\n");
}

TEST(Exposition, NothingElseIsChanged) {
  for (const char* text : {"", "# HELP a Of le=\"1\"} 5\n", "a 1\n", "a_sum{model=\"m\"} 1\n",
                           "a{file=\"1\"} 5\n", "a{model=\"x,le=\",rank=\"1\"} 5\n",
                           "a{model=\"x,le=\\\"1\"} 5\n", "a_total{tenant=\"x,le=\"} 5\n"}) {
    EXPECT_EQ(WithPythonBounds(text), text);
  }
}

}  // namespace
}  // namespace penstock
