#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "bench/svg_plot.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

// The colours of Okabe and Ito, which the colour-blind tell apart.
constexpr char kStyle[] = R"(
:root { color-scheme: light dark; --text: #1a1c1e; --faint: #62686d; --line: #d8dcdf; --back: #fff }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --faint: #9aa2a8; --line: #363b40; --back: #16181a }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
       max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
p.about { color: var(--faint) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { white-space: normal; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal;
                               overflow-wrap: anywhere; min-width: 10rem }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.5rem;
         margin-top: 1.5rem }
figure { margin: 0; min-width: 0; max-width: 36rem } figcaption { font-weight: 600 }
svg { display: block; width: 100%; height: auto } svg text { font-size: 12px; fill: var(--faint) }
.grid { stroke: var(--line) }
path { fill: none; stroke-width: 1.6; stroke: var(--c) } circle { fill: var(--c) }
figure ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: 12px }
figure li { display: flex; gap: .4rem; overflow-wrap: anywhere; min-width: 0 }
figure li::before { content: ""; flex: none; width: 1rem; height: .2rem; margin-top: .6em; background: var(--c) }
figure .more { color: var(--faint) } figure .more::before { display: none }
.s0 { --c: #0072b2 } .s1 { --c: #d55e00 } .s2 { --c: #009e73 } .s3 { --c: #cc79a7 }
.s4 { --c: #e69f00 } .s5 { --c: #56b4e9 } .s6 { --c: #8a8f94 } .s7 { --c: #b3a100 }
)";

struct ReportTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};

double NumberAt(const Json& run, const char* pointer) {
  const Json::json_pointer at(pointer);
  return run.contains(at) && run[at].is_number() ? run[at].get<double>() : 0;
}

std::string StringAt(const Json& run, const char* pointer, const std::string& otherwise) {
  const Json::json_pointer at(pointer);
  return run.contains(at) && run[at].is_string() ? run[at].get<std::string>() : otherwise;
}

std::string NameOf(const Json& run) {
  std::string name = StringAt(run, "/scenario/name", "run");
  const double rate = NumberAt(run, "/scenario/rate");
  if (rate >= 100) {
    absl::StrAppendFormat(&name, " @%.0f/s", rate);
  } else if (rate > 0) {
    absl::StrAppendFormat(&name, " @%.3g/s", rate);
  }
  const std::string target = StringAt(run, "/target", "");
  if (!target.empty()) absl::StrAppend(&name, ", ", target);
  return name;
}

bool IsLoad(const Json& file) { return file["kind"] == "serve" || file["kind"] == "sweep"; }

/// "timeout 2, cut 1"
std::string FailuresOf(const Json& run) {
  const Json::json_pointer at("/result/failures");
  if (!run.contains(at) || !run[at].is_object()) return "";
  std::vector<std::string> kinds;
  for (const auto& [kind, count] : run[at].items()) {
    if (count.is_number()) kinds.push_back(absl::StrFormat("%s %.0f", kind, count.get<double>()));
  }
  return absl::StrJoin(kinds, ", ");
}

ReportTable LoadTable(const Json& file) {
  ReportTable table;
  table.head = {"scenario",   "ok",           "failed",       "failures",       "requests/s",
                "good/s",     "tokens out/s", "TTFT p50 ms",  "TTFT p99 ms",    "TTFT p99.9 ms",
                "ITL p50 ms", "ITL p99 ms",   "ITL p99.9 ms", "TPOT p50 ms",    "TPOT p99.9 ms",
                "end p50 ms", "end p99 ms",   "end p99.9 ms", "CPU ms/request", "memory MiB",
                "generator",  "asked again"};
  const auto ms = [](const Json& run, const char* at) {
    return absl::StrFormat("%.2f", 1e3 * NumberAt(run, at));
  };
  // Of a server whose process is not known there is none.
  const auto known = [](const Json& run, const char* at, double unit) {
    const double value = NumberAt(run, at);
    return value > 0 ? absl::StrFormat("%.2f", value / unit) : "";
  };
  for (const Json& run : file["runs"]) {
    const Json::json_pointer busy("/result/generator/bottleneck");
    const bool bound = run.contains(busy) && run[busy] == true;
    table.rows.push_back(
        {NameOf(run),
         absl::StrFormat("%.0f", NumberAt(run, "/result/ok")),
         absl::StrFormat("%.0f", NumberAt(run, "/result/failed")),
         FailuresOf(run),
         absl::StrFormat("%.2f", NumberAt(run, "/result/requests_per_second")),
         absl::StrFormat("%.2f", NumberAt(run, "/result/good_requests_per_second")),
         absl::StrFormat("%.0f", NumberAt(run, "/result/output_tokens_per_second")),
         ms(run, "/result/ttft_seconds/p50"),
         ms(run, "/result/ttft_seconds/p99"),
         ms(run, "/result/ttft_seconds/p999"),
         ms(run, "/result/itl_seconds/p50"),
         ms(run, "/result/itl_seconds/p99"),
         ms(run, "/result/itl_seconds/p999"),
         ms(run, "/result/tpot_seconds/p50"),
         ms(run, "/result/tpot_seconds/p999"),
         ms(run, "/result/e2e_seconds/p50"),
         ms(run, "/result/e2e_seconds/p99"),
         ms(run, "/result/e2e_seconds/p999"),
         known(run, "/result/server_cpu_ms_per_request", 1),
         known(run, "/result/server_rss_bytes", 1 << 20),
         bound ? "the bottleneck" : "had time",
         absl::StrFormat("%.0f", NumberAt(run, "/result/asked_again"))});
  }
  return table;
}

/// Of offline and kernels: every number and word of every result.
ReportTable PlainTable(const Json& file) {
  ReportTable table;
  table.head = {"scenario"};
  for (const auto& [key, value] : file["runs"][0]["result"].items()) {
    if (value.is_number() || value.is_string()) table.head.push_back(key);
  }
  for (const Json& run : file["runs"]) {
    std::vector<std::string> row = {NameOf(run)};
    for (size_t i = 1; i < table.head.size(); ++i) {
      const auto found = run["result"].find(table.head[i]);
      const Json cell = found == run["result"].end() ? Json() : *found;
      row.push_back(cell.is_number()   ? absl::StrFormat("%.4g", cell.get<double>())
                    : cell.is_string() ? cell.get<std::string>()
                                       : "");
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable TableOf(const Json& file) { return IsLoad(file) ? LoadTable(file) : PlainTable(file); }

std::string LatencyPlot(const Json& file, const char* title, const std::string& times) {
  Plot plot{title, {"milliseconds", true}, {"share of all"}, {}};
  const Json::json_pointer at("/result/" + times + "/curve");
  for (const Json& run : file["runs"]) {
    if (!run.contains(at) || !run[at].is_array() || run[at].size() < 2) continue;
    PlotSeries line{NameOf(run), {}};  // rounds of one name are lines of one colour
    const auto steps = static_cast<double>(run[at].size() - 1);
    for (size_t i = 0; i < run[at].size(); ++i) {
      if (run[at][i].is_number())
        line.points.push_back({1e3 * run[at][i].get<double>(), static_cast<double>(i) / steps, ""});
    }
    plot.series.push_back(std::move(line));
  }
  return SvgOf(plot);
}

/// One line per target over its scenarios and rates, a mark for each: the mean of its rounds.
std::string ThroughputPlot(const Json& file) {
  Plot plot{"Throughput against latency", {"tokens out per second"}, {"TTFT p99, ms", true}, {}};
  struct Mean {
    double throughput = 0, latency = 0;
    int rounds = 0;
  };
  std::map<std::string, std::map<std::string, Mean>> targets;
  size_t loads = 0;
  for (const Json& run : file["runs"]) {
    Mean& mean = targets[StringAt(run, "/target", "target")][NameOf(run)];
    mean.throughput += NumberAt(run, "/result/output_tokens_per_second");
    mean.latency += NumberAt(run, "/result/ttft_seconds/p99");
    loads += mean.rounds++ == 0 ? 1 : 0;
  }
  for (const auto& [target, means] : targets) {
    PlotSeries line{target, {}, /*marks=*/true};
    for (const auto& [name, mean] : means)
      line.points.push_back(
          {mean.throughput / mean.rounds, 1e3 * mean.latency / mean.rounds, name});
    std::sort(line.points.begin(), line.points.end(),
              [](const PlotPoint& a, const PlotPoint& b) { return a.x < b.x; });
    plot.series.push_back(std::move(line));
  }
  return loads > 1 ? SvgOf(plot) : "";
}

std::string RooflinePlot(const Json& file) {
  if (!file.contains("limits") || !file["limits"].is_object()) return "";
  Plot plot{"Roofline", {"operations per byte", true}, {"billion operations per second", true}, {}};
  std::map<std::string, PlotSeries>
      points;  // by the arithmetic, the limit above which none can lie
  double low = 1e9, high = 0;
  for (const Json& run : file["runs"]) {
    const double intensity = NumberAt(run, "/result/intensity");
    if (intensity <= 0) continue;
    low = std::min(low, intensity), high = std::max(high, intensity);
    const std::string of = StringAt(run, "/result/arithmetic", "");
    const std::string name = of.empty() ? "measured" : "measured, " + of;
    points.try_emplace(of, PlotSeries{name, {}, true, false})
        .first->second.points.push_back({intensity, NumberAt(run, "/result/gops"), NameOf(run)});
  }
  if (high <= 0) return "";
  const double memory = NumberAt(file, "/limits/memory_gbs");
  for (const auto& [name, value] : file["limits"].items()) {
    if (name == "memory_gbs" || !value.is_number()) continue;
    PlotSeries roof{name, {}};
    constexpr int kPieces = 60;
    for (int i = 0; i <= kPieces; ++i) {
      const double x = low / 2 * std::pow(4 * high / low, static_cast<double>(i) / kPieces);
      roof.points.push_back({x, std::min(value.get<double>(), x * memory), ""});
    }
    plot.series.push_back(std::move(roof));
  }
  for (auto& [of, series] : points) plot.series.push_back(std::move(series));
  return SvgOf(plot);
}

/// What the machine can do, where the file has it.
std::string MachineLimits(const Json& file) {
  if (!file.contains("limits") || !file["limits"].is_object()) return "";
  return absl::StrCat("The machine's limits: ", LimitsText(file["limits"]), ".");
}

std::string About(const Json& file) {
  return absl::StrFormat(
      "%s; %s on %s, %.0f cores, %.1f GiB, %s", StringAt(file, "/time", "at an unknown time"),
      StringAt(file, "/version", "unknown"), StringAt(file, "/machine/cpu", "an unknown processor"),
      NumberAt(file, "/machine/cores"), NumberAt(file, "/machine/memory_bytes") / (1 << 30),
      StringAt(file, "/machine/kernel", "unknown kernel"));
}

/// What sweeps found, a sentence for each scenario and target; "" of other files.
std::string FoundRates(const Json& file) {
  std::string out;
  std::string last;
  for (const Json& run : file["runs"]) {
    if (!run.contains("best_rate") || !run["best_rate"].is_number()) continue;
    const std::string name = absl::StrCat(StringAt(run, "/scenario/name", "run"), ", ",
                                          StringAt(run, "/target", "target"));
    if (name == last) continue;
    last = name;
    const double rate = NumberAt(run, "/best_rate");
    const std::string end = StringAt(run, "/ended_by", "");
    const bool busy = end == "generator";
    absl::StrAppend(&out, out.empty() ? "" : " ", name, ": ");
    if (rate > 0) {
      absl::StrAppendFormat(&out, "%.2f requests/s keep the goal%s.", rate,
                            busy ? " (or more: then the load generator is the bottleneck)"
                            : end == "requests"
                                ? " (or more: then all requests are in flight at once)"
                                : "");
    } else {
      out += busy ? "the load generator was the bottleneck at every rate."
                  : "no rate that was tried keeps the goal.";
    }
  }
  return out;
}

/// `name`: of the region that keyboards scroll.
std::string HtmlTable(const ReportTable& table, const std::string& name) {
  std::string out = absl::StrCat("<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"",
                                 EscapeHtml(name), "\"><table>\n<tr>");
  for (const std::string& cell : table.head)
    absl::StrAppend(&out, "<th scope=\"col\">", EscapeHtml(cell), "</th>");
  out += "</tr>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) absl::StrAppend(&out, "<td>", EscapeHtml(cell), "</td>");
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string LimitsText(const Json& limits) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : limits.items()) {
    if (!value.is_number()) continue;
    parts.push_back(absl::StrFormat("%s %.1f %s", name.substr(0, name.rfind('_')),
                                    value.get<double>(), name == "memory_gbs" ? "GB/s" : "Gop/s"));
  }
  return absl::StrJoin(parts, ", ");
}

std::string HtmlReport(const std::vector<NamedResults>& results) {
  std::string out = absl::StrCat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>Penstock benchmark</title><style>",
      kStyle, "</style></head>\n<body><main><h1>Penstock benchmark</h1>\n");
  for (const NamedResults& one : results) {
    const Json& file = *one.file;
    const std::string found = absl::StrCat(FoundRates(file), MachineLimits(file));
    absl::StrAppend(&out, "<h2>", EscapeHtml(one.name), " (",
                    EscapeHtml(file["kind"].get<std::string>()), ")</h2>\n<p class=\"about\">",
                    EscapeHtml(About(file)), "</p>\n", found.empty() ? "" : "<p>",
                    EscapeHtml(found), found.empty() ? "" : "</p>\n",
                    HtmlTable(TableOf(file), "Figures of " + one.name), "<div class=\"plots\">\n");
    if (IsLoad(file)) {
      absl::StrAppend(&out, LatencyPlot(file, "Time to first token", "ttft_seconds"),
                      LatencyPlot(file, "Time between tokens", "itl_seconds"),
                      LatencyPlot(file, "Time to the end", "e2e_seconds"), ThroughputPlot(file));
    }
    absl::StrAppend(&out, RooflinePlot(file), "</div>\n");
  }
  return out + "</main></body></html>\n";
}

std::string MarkdownReport(const std::vector<NamedResults>& results) {
  std::string out = "# Penstock benchmark\n";
  const auto row = [&](const std::vector<std::string>& cells) {
    std::vector<std::string> safe;
    for (const std::string& cell : cells) safe.push_back(absl::StrReplaceAll(cell, {{"|", "\\|"}}));
    absl::StrAppend(&out, "| ", absl::StrJoin(safe, " | "), " |\n");
  };
  for (const NamedResults& one : results) {
    const Json& file = *one.file;
    absl::StrAppend(&out, "\n## ", one.name, " (", file["kind"].get<std::string>(), ")\n\n",
                    About(file), "\n\n");
    const std::string found = absl::StrCat(FoundRates(file), MachineLimits(file));
    if (!found.empty()) absl::StrAppend(&out, found, "\n\n");
    const ReportTable table = TableOf(file);
    row(table.head);
    out += "|---|";
    for (size_t i = 1; i < table.head.size(); ++i) out += "---:|";
    out += "\n";
    for (const auto& cells : table.rows) row(cells);
  }
  return out;
}

}  // namespace penstock
