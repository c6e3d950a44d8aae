#include "server/bench_command.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "bench/compare.h"
#include "bench/report.h"
#include "bench/summary.h"
#include "server/build_info.h"
#include "server/commands.h"

namespace penstock {

std::string BenchVersion() { return absl::StrCat(PENSTOCK_VERSION, "+", BuildCommit()); }

void EndBench(const absl::Status& status, int& exit_code) {
  if (status.ok()) return;
  std::fprintf(stderr, "penstock: %s\n", std::string(status.message()).c_str());
  exit_code = absl::IsFailedPrecondition(status) ? 2 : 1;
}

absl::Status KeepResults(const std::string& path, const std::string& kind,
                         nlohmann::ordered_json runs) {
  if (path.empty()) return absl::OkStatus();
  return WriteResultFile(path, ResultFile(kind, BenchVersion(), std::move(runs)));
}

void PrintResults(const std::string& kind, const nlohmann::ordered_json& body) {
  nlohmann::ordered_json out = ResultHead(kind, BenchVersion());
  out.update(body);
  const std::string text =
      out.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  std::fputs(text.c_str(), stdout);
}

namespace {

struct CompareFiles {
  std::string a, b;
  bool json = false;
};

absl::Status CompareFilesOf(const CompareFiles& files) {
  ASSIGN_OR_RETURN(const nlohmann::ordered_json a, ReadResultFile(files.a));
  nlohmann::ordered_json b;
  if (!files.b.empty()) {
    ASSIGN_OR_RETURN(b, ReadResultFile(files.b));
  }
  ASSIGN_OR_RETURN(const Comparison comparison,
                   CompareResults(a, files.a, files.b.empty() ? nullptr : &b, files.b));
  if (files.json) {
    PrintResults("compare", ComparisonJson(comparison));
  } else {
    std::fputs(ComparisonTable(comparison).c_str(), stdout);
  }
  return absl::OkStatus();
}

struct ReportFlags {
  std::vector<std::string> files;
  std::string output;
};

absl::Status WriteReport(const ReportFlags& flags) {
  std::vector<nlohmann::ordered_json> files;
  for (const std::string& path : flags.files) {
    ASSIGN_OR_RETURN(nlohmann::ordered_json file, ReadResultFile(path));
    files.push_back(std::move(file));
  }
  std::vector<NamedResults> named;
  for (size_t i = 0; i < files.size(); ++i) {
    named.push_back({std::filesystem::path(flags.files[i]).stem().string(), &files[i]});
  }
  if (flags.output.empty()) {
    std::fputs(MarkdownReport(named).c_str(), stdout);
    return absl::OkStatus();
  }
  const bool html = absl::EndsWith(flags.output, ".html");
  if (!html && !absl::EndsWith(flags.output, ".md"))
    return absl::InvalidArgumentError(flags.output + ": expected a name that ends in .html or .md");
  std::ofstream out(flags.output);
  out << (html ? HtmlReport(named) : MarkdownReport(named));
  return out.flush() ? absl::OkStatus()
                     : absl::UnavailableError(flags.output + ": cannot be written");
}

}  // namespace

void AddBenchReportCommand(CLI::App& bench, int& exit_code) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* command =
      bench.add_subcommand("report", "Results as a page with plots, or as Markdown");
  command->add_option("RESULTS", flags->files, "Files of --output")->required();
  command->add_option("--output", flags->output,
                      "FILE.html (stands alone) or FILE.md; none: Markdown to standard output");
  command->callback([flags, &exit_code] { EndBench(WriteReport(*flags), exit_code); });
}

void AddBenchCompareCommand(CLI::App& bench, int& exit_code) {
  auto files = std::make_shared<CompareFiles>();
  CLI::App* command = bench.add_subcommand(
      "compare", "Ratios of two results with 95 % intervals over their rounds");
  command->add_option("A", files->a, "Results of --output")->required();
  command->add_option("B", files->b, "Others; none: A holds two targets");
  command->add_flag("--json", files->json, "JSON");
  command->callback([files, &exit_code] { EndBench(CompareFilesOf(*files), exit_code); });
}

void AddBenchCommand(CLI::App& app, int& exit_code) {
  CLI::App* bench = app.add_subcommand("bench", "Measure a server, the engine or the kernels");
  bench->require_subcommand(1);
  AddBenchServeCommand(*bench, exit_code);
  AddBenchSweepCommand(*bench, exit_code);
  AddBenchCompareCommand(*bench, exit_code);
  AddBenchReportCommand(*bench, exit_code);
  AddBenchLocalCommands(*bench, exit_code);
}

}  // namespace penstock
