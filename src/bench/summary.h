// Results of benchmarks: one schema of JSON for all, a table for people.
// Owns nothing. Must not know sockets.
// Threads: value.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/load_run.h"

namespace penstock {

inline constexpr char kResultSchema[] = "penstock.bench/1";

/// One run of a scenario against a target: {"scenario", "target", "round", "result"}. Times are in
/// seconds, with their mean, p50, p90, p95, p99, p99.9, and a curve of 101 quantiles.
nlohmann::ordered_json RunJson(const Scenario& scenario, const std::string& target, int round,
                               const LoadResult& result);
/// {"schema", "kind", "version", "time", "machine"}, the head of all results. `version` has the commit.
nlohmann::ordered_json ResultHead(const std::string& kind, const std::string& version);
/// The head and "runs". `kind`: serve, sweep, offline, kernels.
nlohmann::ordered_json ResultFile(const std::string& kind, const std::string& version,
                                  nlohmann::ordered_json runs);
/// What this machine is: processor, cores allowed, memory, kernel.
nlohmann::ordered_json MachineJson();
/// INVALID_ARGUMENT where the file is not of this schema: it says which one it is of, or what of
/// which run is not as expected.
absl::StatusOr<nlohmann::ordered_json> ReadResultFile(const std::string& path);
absl::Status WriteResultFile(const std::string& path, const nlohmann::ordered_json& file);

std::string SummaryHeader();
std::string SummaryRow(const std::string& name, const LoadResult& result);
/// Failures by kind, the trace's faults, and what else to beware of; empty: nothing.
std::string SummaryNotes(const LoadResult& result);

}  // namespace penstock
