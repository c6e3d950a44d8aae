#include "bench/summary.h"

#include <sys/utsname.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/machine.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kCurvePoints = 100;
constexpr int kMostNesting = 32;  // of a results file; ours have 5

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

Json TimesJson(const Distribution& times) {
  return {{"mean", times.mean()},        {"p50", times.Quantile(0.5)},
          {"p90", times.Quantile(0.9)},  {"p95", times.Quantile(0.95)},
          {"p99", times.Quantile(0.99)}, {"p999", times.Quantile(0.999)},
          {"count", times.count()},      {"curve", times.Curve(kCurvePoints)}};
}

Json ScenarioJson(const Scenario& scenario) {
  Scenario copy = scenario;
  Json out;
  for (const ConfigField& field : DescribeScenario(copy).fields) {
    std::visit(
        [&](auto* value) {
          using Value = std::remove_pointer_t<decltype(value)>;
          if constexpr (std::is_arithmetic_v<Value> || std::is_same_v<Value, std::string>)
            out[std::string(field.name)] = *value;
        },
        field.ref);
  }
  out["seed"] = scenario.seed;
  out["prefix_seed"] = scenario.prefix_seed;
  return out;
}

/// What of a run compare and report could not read; "": nothing.
std::string FaultOfRun(const Json& run) {
  if (!run.is_object() || !run.contains("result") || !run["result"].is_object())
    return "a run without a result";
  const auto has = [](const Json& in, const char* key, const auto& right) {
    return !in.contains(key) || right(in[key]);
  };
  const auto string = [](const Json& value) { return value.is_string(); };
  if (!has(run, "scenario", [](const Json& value) { return value.is_object(); }))
    return "a run whose scenario is no object";
  if (run.contains("scenario") && !has(run["scenario"], "name", string))
    return "a run whose scenario.name is no string";
  if (!has(run, "target", string)) return "a run whose target is no string";
  if (!has(run, "round", [](const Json& value) {
        return value.is_number_unsigned() && value.get<uint64_t>() <= INT32_MAX;
      }))
    return "a run whose round is no whole number from 0";
  return "";
}

}  // namespace

Json RunJson(const Scenario& scenario, const std::string& target, int round,
             const LoadResult& result) {
  const auto per_second = [&](int64_t count) {
    return result.seconds > 0 ? static_cast<double>(count) / result.seconds : 0.0;
  };
  const double cpu = result.server.cpu_seconds;
  const auto answered =
      static_cast<double>(std::max<int64_t>(1, result.num_ok + result.num_failed));
  Json out = {{"scenario", ScenarioJson(scenario)},
              {"target", target},
              {"round", round},
              {"result",
               {{"ok", result.num_ok},
                {"failed", result.num_failed},
                {"failures", result.failures},
                {"asked_again", result.asked_again},
                {"seconds", result.seconds},
                {"out_of_time", result.out_of_time},
                {"requests_per_second", per_second(result.num_ok)},
                {"output_tokens_per_second", per_second(result.completion_tokens)},
                {"prompt_tokens_per_second", per_second(result.prompt_tokens)},
                {"good_requests_per_second", per_second(result.num_good)},
                {"prompt_tokens", result.prompt_tokens},
                {"completion_tokens", result.completion_tokens},
                {"cached_tokens", result.cached_tokens},
                {"ttft_seconds", TimesJson(result.ttft)},
                {"itl_seconds", TimesJson(result.itl)},
                {"tpot_seconds", TimesJson(result.tpot)},
                {"e2e_seconds", TimesJson(result.e2e)},
                {"server_cpu_ms_per_request", cpu >= 0 ? 1e3 * cpu / answered : -1},
                {"server_rss_bytes", result.server.rss_bytes},
                {"generator",
                 {{"cpu_share", result.generator.cpu_share},
                  {"cpu_us_per_piece", result.generator.cpu_us_per_piece},
                  {"late_p99_seconds", result.generator.late_p99},
                  {"wait_us", result.generator.wait_us},
                  {"wait_of_piece", result.generator.wait_of_piece},
                  {"wait_of_request", result.generator.wait_of_request},
                  {"bottleneck", result.generator.bottleneck}}}}}};
  if (result.trace_faults.first_line > 0) {
    out["result"]["trace_rows"] = {{"unreadable", result.trace_faults.unreadable},
                                   {"out_of_order", result.trace_faults.out_of_order}};
  }
  return out;
}

Json MachineJson() {
  utsname system{};
  uname(&system);
  return {{"cpu", CpuName()},
          {"cores", AllowedCpus()},
          {"memory_bytes", AllowedMemory()},
          {"kernel", std::string(system.release)},
          {"host", std::string(system.nodename)}};
}

Json ResultHead(const std::string& kind, const std::string& version) {
  return {{"schema", kResultSchema},
          {"kind", kind},
          {"version", version},
          {"time", absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone())},
          {"machine", MachineJson()}};
}

Json ResultFile(const std::string& kind, const std::string& version, Json runs) {
  Json file = ResultHead(kind, version);
  file["runs"] = std::move(runs);
  return file;
}

absl::StatusOr<Json> ReadResultFile(const std::string& path) {
  std::ifstream in(path);
  if (!in) return absl::NotFoundError(path + ": cannot be read");
  bool deep = false;
  const auto is_flat = [&](int depth, Json::parse_event_t, const Json&) {
    deep = deep || depth > kMostNesting;
    return !deep;
  };
  Json file = Json::parse(in, is_flat, /*allow_exceptions=*/false);
  const auto refuse = [&](const std::string& what) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", what, ", expected results of schema ", kResultSchema));
  };
  if (deep) return refuse(absl::StrCat("values lie in more than ", kMostNesting, " others"));
  if (file.is_discarded()) return refuse("not JSON");
  if (!file.is_object() || !file.contains("schema")) return refuse("no schema in it");
  if (file["schema"] != kResultSchema) return refuse("its schema is " + file["schema"].dump());
  if (!file.contains("kind") || !file["kind"].is_string()) return refuse("no kind in it");
  if (!file.contains("runs") || !file["runs"].is_array() || file["runs"].empty())
    return refuse("no runs in it");
  for (size_t i = 0; i < file["runs"].size(); ++i) {
    const std::string fault = FaultOfRun(file["runs"][i]);
    if (!fault.empty()) return refuse(absl::StrCat("runs[", i, "]: ", fault));
  }
  return file;
}

absl::Status WriteResultFile(const std::string& path, const Json& file) {
  std::ofstream out(path);
  out << file.dump(1, ' ', false, Json::error_handler_t::replace) << "\n";
  return out.flush() ? absl::OkStatus() : absl::UnavailableError(path + ": cannot be written");
}

std::string SummaryHeader() {
  return "scenario                 ok fail   req/s  good/s out tok/s  in tok/s   ttft p50/  p99 ms "
         " "
         " itl p50/ p99 ms  tpot p50   e2e p50/   p99 ms  cpu ms/req\n";
}

std::string SummaryRow(const std::string& name, const LoadResult& r) {
  const double seconds = std::max(1e-9, r.seconds);
  const auto rate = [&](int64_t n) { return static_cast<double>(n) / seconds; };
  const auto ms = [](const Distribution& times, double q) { return 1e3 * times.Quantile(q); };
  const auto requests = static_cast<double>(std::max<int64_t>(1, r.num_ok + r.num_failed));
  return absl::StrFormat(
      "%-22s %4d %4d %7.1f %7.1f %9.0f %9.0f %9.1f/%8.1f %8.2f/%7.2f %9.2f %9.1f/%9.1f %11s\n",
      name, r.num_ok, r.num_failed, rate(r.num_ok), rate(r.num_good), rate(r.completion_tokens),
      rate(r.prompt_tokens), ms(r.ttft, 0.5), ms(r.ttft, 0.99), ms(r.itl, 0.5), ms(r.itl, 0.99),
      ms(r.tpot, 0.5), ms(r.e2e, 0.5), ms(r.e2e, 0.99),
      r.server.cpu_seconds < 0 ? "-"
                               : absl::StrFormat("%.2f", 1e3 * r.server.cpu_seconds / requests));
}

std::string SummaryNotes(const LoadResult& r) {
  std::string out;
  if (!r.failures.empty()) {
    out += "  failures:";
    for (const auto& [kind, count] : r.failures) absl::StrAppend(&out, " ", kind, " ", count);
    absl::StrAppend(&out, "\n  the first: ", r.first_failure, "\n");
  }
  if (r.asked_again > 0) {
    absl::StrAppend(&out, "  asked again: ", r.asked_again,
                    " requests that left as the server closed their kept connections\n");
  }
  if (r.out_of_time) {
    out +=
        "  timeout_seconds ended the run: what was in flight failed as timeout, what had not left "
        "was not sent\n";
  }
  if (r.trace_faults.first_line > 0) {
    absl::StrAppend(&out, "  rows of the trace: ", r.trace_faults.unreadable,
                    " cannot be read and are left out, ", r.trace_faults.out_of_order,
                    " lie before the row above and are sent with it; the first is in line ",
                    r.trace_faults.first_line, "\n");
  }
  if (r.generator.blurs_latencies) {
    absl::StrAppendFormat(
        &out,
        "  latencies have %.2f ms of the load generator in them, the mean that it "
        "waited for a processor when something had come\n",
        1e-3 * r.generator.wait_us);
  }
  if (r.generator.bottleneck) {
    absl::StrAppendFormat(
        &out,
        "  the load generator was the bottleneck: %.0f %% of a core, %.0f %% of a request's time "
        "waiting for one, requests left up to %.1f ms late (p99), %d not at all: these are not the "
        "server's figures\n",
        100 * r.generator.cpu_share, 100 * std::max(0.0, r.generator.wait_of_request),
        1e3 * r.generator.late_p99,
        r.failures.contains(kGeneratorFault) ? r.failures.at(kGeneratorFault) : 0);
  }
  return out;
}

}  // namespace penstock
