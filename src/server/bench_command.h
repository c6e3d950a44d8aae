// penstock bench: what its subcommands share.
// Owns nothing. Must not know what is measured.
// Threads: main.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/status.h"

namespace penstock {

/// The version that results carry: number and commit.
std::string BenchVersion();
/// Prints an error and sets the exit code: 1.
void EndBench(const absl::Status& status, int& exit_code);
/// Writes `runs` to `path` as results of `kind`; nothing where it is empty.
absl::Status KeepResults(const std::string& path, const std::string& kind,
                         nlohmann::ordered_json runs);

/// Prints `body` as JSON below the head of results of `kind`. Bytes that are no UTF-8 are replaced.
void PrintResults(const std::string& kind, const nlohmann::ordered_json& body);

void AddBenchServeCommand(CLI::App& bench, int& exit_code);
void AddBenchSweepCommand(CLI::App& bench, int& exit_code);
void AddBenchCompareCommand(CLI::App& bench, int& exit_code);
void AddBenchReportCommand(CLI::App& bench, int& exit_code);
void AddBenchLocalCommands(CLI::App& bench, int& exit_code);

}  // namespace penstock
