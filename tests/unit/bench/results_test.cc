// Distributions, comparisons, sweeps and reports.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/str_cat.h"
#include "bench/compare.h"
#include "bench/distribution.h"
#include "bench/report.h"
#include "bench/summary.h"
#include "bench/svg_plot.h"
#include "bench/sweep.h"
#include "fakes/temp_dir.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::ordered_json;

TEST(Distribution, TakesTheNearestRank) {
  Distribution few;
  EXPECT_EQ(few.Quantile(0.5), 0);
  EXPECT_TRUE(few.Curve(10).empty());
  for (const double value : {4, 1, 3, 2}) few.Add(value);
  EXPECT_EQ(few.Quantile(0), 1);
  EXPECT_EQ(few.Quantile(0.5), 2);
  EXPECT_EQ(few.Quantile(0.99), 4);
  EXPECT_EQ(few.mean(), 2.5);
}

TEST(Distribution, IsWithinAThousandthBeyondItsMemory) {
  Distribution many;
  std::vector<double> all;
  std::mt19937_64 random(1);
  std::lognormal_distribution<> draw(-4, 1.5);
  for (int i = 0; i < 400000; ++i) {
    all.push_back(draw(random));
    many.Add(all.back());
  }
  std::sort(all.begin(), all.end());
  for (const double q : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const double exact = all[static_cast<size_t>(std::ceil(q * 400000)) - 1];
    EXPECT_NEAR(many.Quantile(q) / exact, 1, 0.001) << q;
  }
  EXPECT_EQ(many.Quantile(1), all.back());
  EXPECT_EQ(many.Curve(100).size(), 101u);
}

/// A file with rounds of one scenario: its output rates per target.
Json Results(const std::vector<std::pair<std::string, std::vector<double>>>& targets) {
  Json runs = Json::array();
  for (const auto& [target, rates] : targets) {
    for (size_t round = 0; round < rates.size(); ++round) {
      runs.push_back({{"scenario", {{"name", "s"}}},
                      {"target", target},
                      {"round", round},
                      {"result",
                       {{"output_tokens_per_second", rates[round]},
                        {"ttft_seconds", {{"p50", 1 / rates[round]}}}}}});
    }
  }
  return ResultFile("serve", "test", std::move(runs));
}

TEST(Compare, PairsRoundsAndSaysHowSureItIs) {
  // Rounds differ by far more than the targets do, who differ by a tenth in each.
  const Json file = Results({{"a", {100, 200, 50, 400}}, {"b", {110, 220, 55, 440}}});
  const auto compared = CompareResults(file, "f", nullptr, "");
  ASSERT_TRUE(compared.ok()) << compared.status();
  EXPECT_TRUE(compared->interleaved);
  ASSERT_EQ(compared->ratios.size(), 2u);
  for (const MetricRatio& ratio : compared->ratios) {
    const double expected = ratio.higher_is_better ? 1.1 : 1 / 1.1;
    EXPECT_NEAR(ratio.ratio, expected, 1e-9) << ratio.metric;
    EXPECT_NEAR(ratio.low, expected, 1e-9);
    EXPECT_NEAR(ratio.high, expected, 1e-9);
  }
  EXPECT_THAT(ComparisonTable(*compared), HasSubstr("B is better"));
  EXPECT_THAT(ComparisonTable(*compared), Not(HasSubstr("A is better")));
}

TEST(Compare, CallsNothingADifferenceThatRoundsDoNotShow) {
  const Json a = Results({{"x", {100, 100, 100, 100, 100}}});
  const Json b = Results({{"x", {90, 115, 98, 104, 101}}});
  const auto compared = CompareResults(a, "a", &b, "b");
  ASSERT_TRUE(compared.ok()) << compared.status();
  EXPECT_LT(compared->ratios[0].low, 1);
  EXPECT_GT(compared->ratios[0].high, 1);
  EXPECT_THAT(ComparisonTable(*compared), Not(HasSubstr("is better")));
  EXPECT_THAT(ComparisonTable(*compared), HasSubstr("not measured turn and turn about"));
}

/// Of metric `name`; a test that asks for one that is not there fails.
MetricRatio RatioNamed(const Comparison& comparison, const std::string& name) {
  for (const MetricRatio& ratio : comparison.ratios) {
    if (ratio.metric == name) return ratio;
  }
  ADD_FAILURE() << "no ratio of " << name;
  return {};
}

TEST(Compare, KeepsAThroughputOfNothing) {
  const Json none = Results({{"x", {0, 0, 0}}}), some = Results({{"x", {5, 6, 7}}});
  const auto lost = CompareResults(some, "a", &none, "b");
  ASSERT_TRUE(lost.ok()) << lost.status();
  const MetricRatio to_nothing = RatioNamed(*lost, "output_tokens_per_second");
  EXPECT_EQ(to_nothing.ratio, 0);
  EXPECT_EQ(to_nothing.high, 0);
  EXPECT_EQ(to_nothing.rounds, 3);
  EXPECT_THAT(ComparisonTable(*lost), HasSubstr("A is better"));

  const auto won = CompareResults(none, "a", &some, "b");
  ASSERT_TRUE(won.ok()) << won.status();
  EXPECT_TRUE(std::isinf(RatioNamed(*won, "output_tokens_per_second").ratio));
  EXPECT_THAT(ComparisonTable(*won), HasSubstr("B is better"));
  EXPECT_TRUE(Json::parse(ComparisonJson(*won).dump())["ratios"][0]["ratio"].is_null());

  const auto neither = CompareResults(none, "a", &none, "b");
  ASSERT_TRUE(neither.ok()) << neither.status();
  EXPECT_TRUE(std::isnan(RatioNamed(*neither, "output_tokens_per_second").ratio));
  EXPECT_THAT(ComparisonTable(*neither), Not(HasSubstr("nan")));
  EXPECT_THAT(ComparisonTable(*neither), Not(HasSubstr("is better")));
}

/// A sweep of one scenario whose steps are `rates`; the best is the last but one.
Json SweepResults(const std::string& target, const std::vector<double>& rates) {
  Json file = Results({{target, rates}});
  file["kind"] = "sweep";
  for (size_t i = 0; i < rates.size(); ++i) {
    Json& run = file["runs"][i];
    run["scenario"]["rate"] = rates[i];
    run["best_rate"] = rates[rates.size() - 2];
    run["kept"] = i + 1 < rates.size();
    run["ended_by"] = "goal";
  }
  file["runs"].back()["result"]["failed"] = 1;
  return file;
}

TEST(Compare, TakesOfSweepsTheRatesThatTheyFound) {
  // Their first steps have the same rates, the others have not.
  const Json a = SweepResults("x", {1, 2, 4, 8, 16}), b = SweepResults("y", {1, 2, 4});
  const auto compared = CompareResults(a, "a", &b, "b");
  ASSERT_TRUE(compared.ok()) << compared.status();
  ASSERT_EQ(compared->ratios.size(), 1u);
  EXPECT_EQ(compared->ratios[0].metric, "best_rate");
  EXPECT_EQ(compared->ratios[0].ratio, 0.25);
  EXPECT_EQ(compared->ratios[0].rounds, 1);
  EXPECT_TRUE(compared->ratios[0].higher_is_better);
  EXPECT_TRUE(compared->warnings.empty()) << "what failed was beyond the rates that are compared";

  Json both = a;
  for (const Json& run : b["runs"]) both["runs"].push_back(run);
  const auto of_one_file = CompareResults(both, "f", nullptr, "");
  ASSERT_TRUE(of_one_file.ok()) << of_one_file.status();
  EXPECT_FALSE(of_one_file->interleaved);
  EXPECT_EQ(RatioNamed(*of_one_file, "best_rate").ratio, 0.25);

  Json unsure = a;
  for (Json& run : unsure["runs"]) run["ended_by"] = "generator";
  EXPECT_THAT(ComparisonTable(*CompareResults(unsure, "a", &b, "b")),
              HasSubstr("beware: A, s: in 4 of 4 runs the load generator was the bottleneck"));
}

TEST(Compare, PairsFilesOfSeveralTargetsTargetByTarget) {
  const Json a = Results({{"x", {10}}, {"y", {100}}}), b = Results({{"x", {20}}, {"y", {300}}});
  const auto compared = CompareResults(a, "a", &b, "b");
  ASSERT_TRUE(compared.ok()) << compared.status();
  ASSERT_EQ(compared->ratios.size(), 4u);
  for (const MetricRatio& ratio : compared->ratios) {
    if (!ratio.higher_is_better) continue;
    EXPECT_EQ(ratio.ratio, ratio.scenario == "s, x" ? 2 : 3) << ratio.scenario;
  }
}

TEST(Compare, SaysWhichRunsToBewareOf) {
  const Json a = Results({{"x", {1, 2}}});
  Json b = a;
  EXPECT_EQ(ComparisonJson(*CompareResults(a, "a", &b, "b"))["warnings"], Json::array());
  b["runs"][0]["result"]["generator"] = {{"bottleneck", true}};
  b["runs"][1]["result"]["failed"] = 3;
  b["runs"][1]["result"]["out_of_time"] = true;
  const auto compared = CompareResults(a, "a", &b, "b");
  ASSERT_TRUE(compared.ok()) << compared.status();
  const std::string table = ComparisonTable(*compared);
  for (const char* what : {"the load generator was the bottleneck", "requests failed",
                           "timeout_seconds ended the run"})
    EXPECT_THAT(table, HasSubstr(absl::StrCat("beware: B, s: in 1 of 2 runs ", what, "\n")));
  const Json warnings = ComparisonJson(*compared)["warnings"];
  ASSERT_EQ(warnings.size(), 3u);
  EXPECT_EQ(
      warnings[0],
      Json({{"of", "B"}, {"scenario", "s"}, {"kind", "failures"}, {"runs", 1}, {"of_runs", 2}}));
}

TEST(Compare, RefusesWhatCannotBeCompared) {
  const Json one = Results({{"x", {1}}});
  EXPECT_THAT(std::string(CompareResults(one, "f", nullptr, "").status().message()),
              HasSubstr("f: has 1 targets"));
  Json other = one;
  other["kind"] = "kernels";
  EXPECT_FALSE(CompareResults(one, "f", &other, "g").ok());
  other = one;
  other["runs"][0]["scenario"]["name"] = "t";
  EXPECT_THAT(std::string(CompareResults(one, "f", &other, "g").status().message()),
              HasSubstr("no scenario with a figure in common"));
}

TEST(Results, OfAnotherSchemaAreRefusedByName) {
  const TempDir dir;
  const std::string path = dir.path() + "/results.json";
  const auto problem = [&](const Json& file) {
    EXPECT_TRUE(WriteResultFile(path, file).ok());
    return std::string(ReadResultFile(path).status().message());
  };
  EXPECT_EQ(problem(Results({{"x", {1}}})), "");
  Json other = Results({{"x", {1}}});
  other["schema"] = "penstock.bench/9";
  EXPECT_THAT(problem(other), HasSubstr("its schema is \"penstock.bench/9\""));
  EXPECT_THAT(problem(Json::array()), HasSubstr("no schema"));
  other = Results({{"x", {1}}});
  other["runs"] = Json::array();
  EXPECT_THAT(problem(other), HasSubstr("no runs"));
  for (const Json& run : {Json(1), Json::object(), Json({{"result", 3}})}) {
    other["runs"] = Json::array();
    other["runs"].push_back(run);
    EXPECT_THAT(problem(other), HasSubstr("a run without a result")) << run;
  }
}

TEST(Results, WithRunsOfOtherTypesAreRefusedByName) {
  const TempDir dir;
  const std::string path = dir.path() + "/results.json";
  const auto problem = [&](const char* key, const Json& value) {
    Json file = Results({{"x", {1, 2}}});
    file["runs"][1][Json::json_pointer(key)] = value;
    EXPECT_TRUE(WriteResultFile(path, file).ok());
    return std::string(ReadResultFile(path).status().message());
  };
  EXPECT_EQ(problem("/round", 7), "");
  const Json odd[] = {5, nullptr, Json::array(), true};
  for (const Json& value : odd) {
    EXPECT_THAT(problem("/scenario", value),
                HasSubstr("runs[1]: a run whose scenario is no object"));
    EXPECT_THAT(problem("/scenario/name", value),
                HasSubstr("runs[1]: a run whose scenario.name is no string"));
    EXPECT_THAT(problem("/target", value), HasSubstr("runs[1]: a run whose target is no string"));
  }
  for (const Json& value : {Json("1"), Json(-1), Json(1.5), Json(1e300), Json(1LL << 40), Json()})
    EXPECT_THAT(problem("/round", value), HasSubstr("runs[1]: a run whose round is no whole"));
  std::string deep = "1";
  for (int i = 0; i < 100000; ++i) deep = "[" + std::move(deep) + "]";
  std::ofstream(path) << R"({"schema":"penstock.bench/1","kind":"serve","runs":)" << deep << "}";
  EXPECT_THAT(std::string(ReadResultFile(path).status().message()), HasSubstr("in more than 32"));
}

TEST(Results, OfHostileFiguresAreReadAsFarAsTheyAreFigures) {
  // Whatever has a result of any shape is compared and shown without an end by an exception.
  const Json odd[] = {5, nullptr, "x", Json::array({1, "x"}), {{"a~b", 1}, {"p50", 2}}, -1e308};
  for (const char* kind : {"serve", "sweep", "kernels", "other"}) {
    for (const Json& value : odd) {
      Json file = Results({{"x", {1, 2}}, {"y", {3, 4}}});
      file["kind"] = kind;
      for (const char* key : {"limits", "machine", "time", "version"}) file[key] = value;
      for (Json& run : file["runs"]) {
        for (const char* key : {"best_rate", "kept", "ended_by"}) run[key] = value;
        run["scenario"]["rate"] = value;
        for (const char* key :
             {"a~b", "c/d", "~2", "failures", "failed", "generator", "itl_seconds", "out_of_time",
              "gops", "intensity", "server_rss_bytes"})
          run["result"][key] = value;
        run["result"]["e2e_seconds"]["curve"] = Json::array({value, value});
      }
      (void)CompareResults(file, "f", nullptr, "");
      EXPECT_THAT(HtmlReport({{"f", &file}}), HasSubstr("</html>")) << kind << value;
      EXPECT_THAT(MarkdownReport({{"f", &file}}), HasSubstr("| scenario |")) << kind << value;
    }
  }
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

/// A server that keeps its goal up to `limit`.
absl::StatusOr<SweepResult> Sweep(double limit, SweepOptions options = {}) {
  return FindHighestRate(options, [&](double rate) -> absl::StatusOr<LoadResult> {
    LoadResult result;
    result.num_ok = 100;
    result.num_good = rate <= limit ? 100 : 50;
    return result;
  });
}

TEST(Sweep, FindsTheHighestRate) {
  for (const double limit : {0.3, 1.0, 7.7, 300.0}) {
    const auto found = Sweep(limit);
    ASSERT_TRUE(found.ok());
    EXPECT_LE(found->best_rate, limit);
    EXPECT_GE(found->best_rate, limit / 1.06);
    EXPECT_LE(found->steps.size(), 24u);
  }
  EXPECT_EQ(Sweep(0)->best_rate, 0);
}

TEST(Sweep, DoesNotTrustABusyGenerator) {
  const auto found = FindHighestRate({}, [](double rate) -> absl::StatusOr<LoadResult> {
    LoadResult result;
    result.num_ok = result.num_good = 10;
    result.generator.bottleneck = rate > 10;
    return result;
  });
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->best_rate, 8);
  EXPECT_EQ(found->end, SweepEnd::kBusyGenerator);
  EXPECT_FALSE(found->steps.back().kept);
}

TEST(Sweep, EndsWhereAllRequestsAreInFlightAtOnce) {
  const auto found = FindHighestRate({}, [](double) -> absl::StatusOr<LoadResult> {
    LoadResult result;
    result.num_ok = result.num_good = 100;
    for (int i = 0; i < 100; ++i) result.e2e.Add(3);
    return result;
  });
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->end, SweepEnd::kFewRequests);
  EXPECT_EQ(found->best_rate, 64) << "at 32/s the last leaves after 3.1 s";
  EXPECT_EQ(Sweep(7.7)->end, SweepEnd::kFound);
}

TEST(Report, ShowsWhatIsInTheFileAsText) {
  Json file = Results({{"<script>alert(1)</script>", {100, 200}}});
  for (Json& run : file["runs"]) run["result"]["ttft_seconds"]["curve"] = {0.001, 0.002, 0.1};
  const std::string html = HtmlReport({{"a&b", &file}});
  EXPECT_THAT(html, HasSubstr("<svg"));
  EXPECT_THAT(html, HasSubstr("a&amp;b"));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("http://")));
  const std::string markdown = MarkdownReport({{"a", &file}});
  EXPECT_THAT(markdown, HasSubstr("| scenario | ok |"));
}

TEST(Report, HasTheLastOfAThousandWhatFailedAndWhatTheServerTook) {
  Json file = Results({{"x", {100, 200}}});
  Json& result = file["runs"][0]["result"];
  for (const auto& [key, p999] : {std::pair("ttft_seconds", 0.00111),
                                  {"itl_seconds", 0.00222},
                                  {"tpot_seconds", 0.00333},
                                  {"e2e_seconds", 0.00444}})
    result[key]["p999"] = p999;
  result["failures"] = {{"timeout", 2}, {"cut", 1}};
  result["asked_again"] = 7;
  result["server_cpu_ms_per_request"] = 5.55;
  result["server_rss_bytes"] = 3 << 20;
  file["runs"][1]["result"]["server_cpu_ms_per_request"] = -1;
  file["runs"][1]["result"]["server_rss_bytes"] = -1;
  const std::string markdown = MarkdownReport({{"a", &file}});
  for (const char* head :
       {"| failures |", "| TTFT p99.9 ms |", "| ITL p99.9 ms |", "| TPOT p99.9 ms |",
        "| end p99.9 ms |", "| CPU ms/request | memory MiB |"})
    EXPECT_THAT(markdown, HasSubstr(head));
  for (const char* cell : {"| timeout 2, cut 1 |", "| 1.11 |", "| 2.22 |", "| 3.33 |",
                           "| 4.44 | 5.55 | 3.00 |", "| had time | 7 |"})
    EXPECT_THAT(markdown, HasSubstr(cell));
  EXPECT_THAT(markdown, HasSubstr("|  |  | had time | 0 |"))
      << "of an unknown process there is none";
  EXPECT_THAT(markdown, Not(HasSubstr("| -")));
}

TEST(Report, DrawsARoofline) {
  Json runs = Json::array();
  runs.push_back(
      {{"scenario", {{"name", "k"}}},
       {"result",
        {{"gops", 50.0}, {"intensity", 2.0}, {"arithmetic", "byte"}, {"of_arithmetic", 0.5}}}});
  Json file = ResultFile("kernels", "test", std::move(runs));
  EXPECT_THAT(HtmlReport({{"k", &file}}), Not(HasSubstr("Roofline")));
  file["limits"] = {{"float_gops", 100}, {"byte_gops", 400}, {"memory_gbs", 30}};
  const std::string html = HtmlReport({{"k", &file}});
  EXPECT_THAT(html, HasSubstr("Roofline"));
  for (const char* series : {"float_gops", "byte_gops", "measured, byte"})
    EXPECT_THAT(html, HasSubstr(absl::StrCat(">", series, "</li>")));
  const char* const limits = "float 100.0 Gop/s, byte 400.0 Gop/s, memory 30.0 GB/s";
  EXPECT_THAT(html, HasSubstr(limits));
  const std::string markdown = MarkdownReport({{"k", &file}});
  EXPECT_THAT(markdown, HasSubstr(limits));
  EXPECT_THAT(markdown, HasSubstr("| arithmetic | of_arithmetic |"));
  EXPECT_THAT(markdown, HasSubstr("| byte | 0.5 |"));
}

TEST(Report, GivesRoundsOneColourAndOneMark) {
  Json file = Results({{"x", {100, 300}}, {"y", {200, 200}}});
  for (Json& run : file["runs"]) {
    run["result"]["ttft_seconds"]["curve"] = {0.001, 0.002, 0.1};
    run["result"]["ttft_seconds"]["p99"] = 0.1;
  }
  file["runs"].push_back(file["runs"].back());
  file["runs"].back()["scenario"]["name"] = "t";
  file["runs"].back()["result"]["output_tokens_per_second"] = 50;
  const std::string html = HtmlReport({{"a", &file}});
  EXPECT_EQ(Count(html, "<li class=\"s0\">s, x</li>"), 1);
  EXPECT_EQ(Count(html, "<path class=\"s0\""), 2) << "a line for each round";
  EXPECT_EQ(Count(html, "<title>s, x</title>"), 1) << "a mark for all rounds";
  EXPECT_EQ(Count(html, "<path class=\"s1\""), 3) << "of latencies two, of throughput one";
}

TEST(Report, SaysWhatASweepFound) {
  Json file = Results({{"x", {100, 200}}});
  EXPECT_THAT(MarkdownReport({{"a", &file}}), Not(HasSubstr("keep")));
  for (Json& run : file["runs"]) run["best_rate"] = 12.5;
  for (const std::string& text : {HtmlReport({{"a", &file}}), MarkdownReport({{"a", &file}})})
    EXPECT_EQ(Count(text, "s, x: 12.50 requests/s keep the goal."), 1) << text;
  const auto told = [&](double rate, const char* ended_by) {
    file["runs"][0]["best_rate"] = rate;
    file["runs"][0]["ended_by"] = ended_by;
    return HtmlReport({{"a", &file}});
  };
  EXPECT_THAT(told(2, "requests"), HasSubstr("keep the goal (or more: then all requests"));
  EXPECT_THAT(told(2, "generator"), HasSubstr("keep the goal (or more: then the load generator"));
  EXPECT_THAT(told(0, "generator"), HasSubstr("generator was the bottleneck at every rate"));
  EXPECT_THAT(told(0, "goal"), HasSubstr("no rate that was tried keeps the goal"));
}

TEST(SvgPlot, SaysHowManyItLeavesOut) {
  Plot plot{"t", {"x"}, {"y"}, {}};
  for (int i = 0; i < 11; ++i)
    plot.series.push_back({absl::StrCat("series ", i % 10), {{0, 1, ""}, {1, 2, ""}}});
  const std::string svg = SvgOf(plot);
  EXPECT_EQ(Count(svg, "<path"), 9) << "eight names, one of them twice";
  EXPECT_EQ(Count(svg, "<li class=\"s"), 8);
  EXPECT_THAT(svg, HasSubstr("and 2 more, not drawn"));
}

TEST(SvgPlot, HasTicksWhereALogarithmicAxisIsShort) {
  for (const auto& [low, high] : {std::pair{3.1, 4.2}, {0.021, 0.049}, {1.0, 900.0}, {5.0, 5.0}}) {
    Plot plot{"t", {"x", true}, {"y"}, {{"s", {{low, 0, ""}, {high, 1, ""}}}}};
    EXPECT_GE(Count(SvgOf(plot), "text-anchor=\"middle\">") - 2, 2) << low << " to " << high;
  }
}

TEST(SvgPlot, LeavesOutWhatAnAxisCannotShow) {
  Plot plot{"t", {"x", true}, {"y"}, {{"s", {{0, 1}, {-1, 2}, {NAN, 1}}}}};
  EXPECT_EQ(SvgOf(plot), "");
  plot.series[0].points.push_back({10, 3, ""});
  plot.series[0].points.push_back({20, 4, ""});
  const std::string svg = SvgOf(plot);
  EXPECT_THAT(svg, HasSubstr("M"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

}  // namespace
}  // namespace penstock
