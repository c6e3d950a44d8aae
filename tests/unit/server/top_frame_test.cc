#include "server/top_frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kPage = R"(# HELP penstock_ready 1: /ready is 200.
# TYPE penstock_ready gauge
penstock_ready 1
penstock_build_info{version="1.2.3"} 1
penstock_config_hash_info{hash="abcd"} 1
process_start_time_seconds 900
vllm:num_requests_running{engine="0",model_name="chat"} 3
vllm:num_requests_running{engine="0",model_name="a \"quoted\\\" \n name"} 1
penstock_max_concurrency{engine="0",model_name="chat"} 64
vllm:kv_cache_usage_perc{engine="0",model_name="chat"} 0.25
)";

std::string PageAt(int generated, int fast, int slow) {
  return absl::StrCat(
      kPage, "vllm:generation_tokens_total{engine=\"0\",model_name=\"chat\"} ", generated, "\n",
      "vllm:time_to_first_token_seconds_bucket{model_name=\"chat\",le=\"0.1\"} ", fast, "\n",
      "vllm:time_to_first_token_seconds_bucket{model_name=\"chat\",le=\"0.5\"} ", fast + slow, "\n",
      "vllm:time_to_first_token_seconds_bucket{model_name=\"chat\",le=\"+Inf\"} ", fast + slow,
      "\nvllm:num_requests_running{model_name=\"\x1b[2J\"} 0\nnot a sample\nhalf{label=\"x 5\n");
}

const absl::Time kThen = absl::FromUnixSeconds(1000), kNow = absl::FromUnixSeconds(1002);

TEST(MetricsText, ReadsLabelsAndSums) {
  const MetricsText page(PageAt(10, 1, 1), kThen);
  EXPECT_EQ(page.Sum("vllm:num_requests_running"), 4);
  EXPECT_EQ(page.Sum("vllm:num_requests_running", "chat"), 3);
  EXPECT_EQ(page.Sum("nothing"), 0);
  EXPECT_EQ(page.Label("penstock_build_info", "version"), "1.2.3");
  EXPECT_THAT(page.Models(), testing::ElementsAre("\x1b[2J", "a \"quoted\\\" \n name", "chat"));
}

TEST(MetricsText, RatesAndQuantilesAreOfTheTimeBetween) {
  const MetricsText before(PageAt(100, 5, 5), kThen), after(PageAt(300, 8, 6), kNow);
  EXPECT_DOUBLE_EQ(RateBetween(before, after, "vllm:generation_tokens_total"), 100);
  EXPECT_TRUE(std::isnan(RateBetween(after, before, "vllm:generation_tokens_total")));
  // Four were observed, three of them below 0.1: the median is two thirds of the way there.
  EXPECT_NEAR(QuantileBetween(before, after, "vllm:time_to_first_token_seconds", 0.5), 0.2 / 3,
              1e-9);
  EXPECT_NEAR(QuantileBetween(before, after, "vllm:time_to_first_token_seconds", 1), 0.5, 1e-9);
  EXPECT_TRUE(std::isnan(QuantileBetween(after, after, "vllm:time_to_first_token_seconds", 0.5)));
}

TEST(TopFrame, SaysWhatThePagesSay) {
  const MetricsText before(PageAt(100, 5, 5), kThen), after(PageAt(300, 8, 6), kNow);
  const std::vector<std::string> lines = TopFrame("http://x:1", before, after, kNow, 100);
  const std::string text = absl::StrJoin(lines, "\n");
  EXPECT_THAT(text,
              HasSubstr("penstock 1.2.3 at http://x:1: ready, up 102.0 s, configuration abcd"));
  EXPECT_THAT(text, HasSubstr("4 running of 64"));
  EXPECT_THAT(text, HasSubstr("100/s generated"));
  EXPECT_THAT(text, HasSubstr("[#####...............] 25.0 %"));
  EXPECT_THAT(text, HasSubstr("first token 67 ms"));
}

TEST(TopFrame, FitsTheScreenAndStaysOnIt) {
  const MetricsText page(PageAt(100, 5, 5), kThen);
  for (const size_t columns : {20, 60, 80, 200}) {
    for (const std::string& line : TopFrame("http://x:1", page, page, kNow, columns)) {
      EXPECT_LE(line.size(), columns);
      EXPECT_THAT(line, Not(HasSubstr("\x1b")));
      EXPECT_THAT(line, Not(HasSubstr("\n")));
    }
  }
}

}  // namespace
}  // namespace penstock
