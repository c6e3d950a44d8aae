#include "server/grafana_boards.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "metrics/catalogue.h"
#include "server/grafana_panels.h"

namespace penstock {
namespace {

using BoardJson = nlohmann::ordered_json;

constexpr std::string_view kOfServer = R"(instance=~"$instance")";
constexpr std::string_view kOfModel = R"(model_name=~"$model",instance=~"$instance")";
constexpr int kColumns = 24, kPanelWidth = 12, kPanelHeight = 8;  // of Grafana's grid

const MetricInfo& CatalogueRow(std::string_view name) {
  for (const MetricInfo& row : MetricCatalogue()) {
    if (row.name == name) return row;
  }
  CHECK(!"the panel's metric is in the catalogue");
  return MetricCatalogue()[0];
}

std::string Matchers(const MetricInfo& row) {
  const bool of_model = absl::StrContains(ToAbsl(row.labels), "model_name");
  return absl::StrCat("{", ToAbsl(of_model ? kOfModel : kOfServer), "}");
}

std::string UnitOf(const BoardPanel& panel) {
  if (!panel.unit.empty()) return std::string(panel.unit);
  const std::string_view name = panel.metric;
  if (panel.kind == PanelKind::kRate) {
    if (name.ends_with("_tokens_total")) return "tokens/s";
    return "ops";
  }
  if (name.ends_with("_seconds")) return "s";
  if (name.ends_with("_bytes")) return "bytes";
  if (name.ends_with("_perc") || name.ends_with("_ratio")) return "percentunit";
  if (name.ends_with("_celsius")) return "celsius";
  if (name.ends_with("_watts")) return "watt";
  if (name.ends_with("_hertz")) return "hertz";
  return "short";
}

/// "sum by (a, b) (" or "sum(".
std::string Grouped(std::string_view word, std::string_view by) {
  if (by.empty()) return absl::StrCat(ToAbsl(word), "(");
  const std::vector<std::string> labels = absl::StrSplit(ToAbsl(by), ',');
  return absl::StrCat(ToAbsl(word), " by (", absl::StrJoin(labels, ", "), ") (");
}

std::string LegendOf(std::string_view by) {
  if (by.empty()) return "";
  const std::vector<std::string> labels = absl::StrSplit(ToAbsl(by), ',');
  return absl::StrJoin(labels, " ", [](std::string* out, const std::string& label) {
    absl::StrAppend(out, "{{", label, "}}");
  });
}

struct BoardTarget {
  std::string query, legend;
};

std::vector<BoardTarget> TargetsOf(const BoardPanel& panel) {
  const MetricInfo& row = CatalogueRow(panel.metric);
  const std::string name(panel.metric), matchers = Matchers(row);
  constexpr std::string_view kWindow = "[$__rate_interval]";
  const auto rate = [&](std::string_view suffix) {
    return absl::StrCat("rate(", name, ToAbsl(suffix), matchers, ToAbsl(kWindow), ")");
  };
  switch (panel.kind) {
    case PanelKind::kNow:
      return {{Grouped("sum", panel.by) + name + matchers + ")", LegendOf(panel.by)}};
    case PanelKind::kMost:
      return {{Grouped("max", panel.by) + name + matchers + ")", LegendOf(panel.by)}};
    case PanelKind::kRate:
      return {{Grouped("sum", panel.by) + rate("") + ")", LegendOf(panel.by)}};
    case PanelKind::kMean:
      return {{Grouped("sum", panel.by) + rate("_sum") + ") / " + Grouped("sum", panel.by) +
                   rate("_count") + ")",
               LegendOf(panel.by)}};
    case PanelKind::kHeat:
      return {
          {absl::StrCat("sum by (le) (increase(", name, "_bucket", matchers, ToAbsl(kWindow), "))"),
           "{{le}}"}};
    case PanelKind::kQuantiles: {
      std::vector<BoardTarget> out;
      for (const auto& [quantile, legend] :
           {std::pair{"0.5", "median"}, {"0.95", "95 %"}, {"0.99", "99 %"}}) {
        out.push_back({absl::StrCat("histogram_quantile(", quantile, ", sum by (le) (",
                                    rate("_bucket"), "))"),
                       legend});
      }
      return out;
    }
    case PanelKind::kQuery:
      break;
  }
  std::string query = absl::StrReplaceAll(ToAbsl(panel.query),
                                          {{"{S}", ToAbsl(kOfServer)}, {"{M}", ToAbsl(kOfModel)}});
  return {{std::move(query), ""}};
}

BoardJson DataSource() { return {{"type", "prometheus"}, {"uid", "${datasource}"}}; }

BoardJson PanelJson(const BoardPanel& panel, int id, int x, int y) {
  BoardJson out;
  const bool heat = panel.kind == PanelKind::kHeat;
  out["id"] = id;
  out["type"] = heat ? "heatmap" : "timeseries";
  out["title"] = panel.title;
  out["description"] =
      absl::StrCat(ToAbsl(CatalogueRow(panel.metric).help), " (", ToAbsl(panel.metric), ")");
  out["datasource"] = DataSource();
  out["gridPos"] = {{"x", x}, {"y", y}, {"w", kPanelWidth}, {"h", kPanelHeight}};
  const std::string unit = UnitOf(panel);
  if (heat) {
    out["options"] = {{"calculate", false},
                      {"yAxis", {{"unit", unit}}},
                      {"color", {{"mode", "scheme"}, {"scheme", "Blues"}}}};
  } else {
    BoardJson defaults = {{"unit", unit}, {"min", 0}};
    if (unit == "percentunit") defaults["max"] = 1;
    defaults["custom"] = {{"fillOpacity", 8}, {"showPoints", "never"}};
    out["fieldConfig"] = {{"defaults", defaults}, {"overrides", BoardJson::array()}};
    out["options"] = {{"legend", {{"displayMode", "list"}, {"placement", "bottom"}}},
                      {"tooltip", {{"mode", "multi"}, {"sort", "desc"}}}};
  }
  out["targets"] = BoardJson::array();
  char letter = 'A';
  for (const BoardTarget& target : TargetsOf(panel)) {
    BoardJson one = {{"refId", std::string(1, letter++)}, {"expr", target.query}};
    if (!target.legend.empty()) one["legendFormat"] = target.legend;
    if (heat) one["format"] = "heatmap";
    out["targets"].push_back(one);
  }
  return out;
}

BoardJson VariableJson(std::string_view name, std::string_view label, std::string_view query) {
  return {{"name", name},
          {"label", label},
          {"type", "query"},
          {"datasource", DataSource()},
          {"query", query},
          {"definition", query},
          {"refresh", 2},
          {"multi", true},
          {"includeAll", true},
          {"allValue", ".*"},
          {"current", {{"text", "All"}, {"value", "$__all"}}}};
}

std::string BoardText(const BoardPlan& plan) {
  BoardJson out;
  out["uid"] = absl::StrCat("penstock-", ToAbsl(plan.name));
  out["title"] = plan.title;
  out["description"] = plan.about;
  out["tags"] = BoardJson::array({"penstock"});
  out["schemaVersion"] = 39;
  out["editable"] = true;
  out["refresh"] = "15s";
  out["time"] = {{"from", "now-1h"}, {"to", "now"}};
  const BoardJson others = {{"type", "dashboards"}, {"tags", out["tags"]}, {"title", "Penstock"},
                            {"asDropdown", true},   {"keepTime", true},    {"includeVars", true}};
  out["links"] = BoardJson::array({others});
  out["templating"]["list"] = {
      {{"name", "datasource"},
       {"label", "Data source"},
       {"type", "datasource"},
       {"query", "prometheus"}},
      VariableJson("instance", "Server", "label_values(penstock_build_info, instance)"),
      VariableJson("model", "Model", "label_values(vllm:num_requests_running, model_name)")};
  out["panels"] = BoardJson::array();
  int id = 1, x = 0, y = 0;
  for (const BoardPanel& panel : plan.panels) {
    if (!panel.row.empty()) {
      if (x > 0) y += kPanelHeight;
      x = 0;
      out["panels"].push_back({{"id", id++},
                               {"type", "row"},
                               {"title", panel.row},
                               {"collapsed", false},
                               {"gridPos", {{"x", 0}, {"y", y}, {"w", kColumns}, {"h", 1}}},
                               {"panels", BoardJson::array()}});
      ++y;
    }
    out["panels"].push_back(PanelJson(panel, id++, x, y));
    x += kPanelWidth;
    if (x < kColumns) continue;
    x = 0;
    y += kPanelHeight;
  }
  return out.dump(2) + "\n";
}

}  // namespace

std::vector<GrafanaBoard> GrafanaBoards() {
  std::vector<GrafanaBoard> out;
  for (const BoardPlan& plan : BoardPlans())
    out.push_back({absl::StrCat("penstock-", ToAbsl(plan.name), ".json"), BoardText(plan)});
  return out;
}

absl::Status WriteGrafanaBoards(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  for (const GrafanaBoard& board : GrafanaBoards()) {
    const std::string path = absl::StrCat(folder, "/", board.file);
    std::ofstream out(path);
    out << board.json;
    out.close();
    if (!out) return absl::UnavailableError(absl::StrCat(path, ": cannot be written"));
  }
  return absl::OkStatus();
}

}  // namespace penstock
