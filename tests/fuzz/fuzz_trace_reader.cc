// libFuzzer target: any bytes as a trace of recorded arrivals. Links penstock_bench.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>

#include "bench/trace_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto file =
      std::make_unique<std::istringstream>(std::string(reinterpret_cast<const char*>(data), size));
  const auto reader = penstock::TraceReader::Read(std::move(file), "fuzz");
  if (!reader.ok()) return 0;
  int64_t rows = 0;
  double last = 0;
  while (const auto row = (*reader)->Next()) {
    ++rows;
    // What is accepted is fit for use: arrivals in order, lengths that fit.
    if (!std::isfinite(row->at) || row->at < last) std::abort();
    last = row->at;
    constexpr int32_t kMost = 1 << 24;
    if (row->prompt_tokens < 0 || row->prompt_tokens > kMost) std::abort();
    if (row->output_tokens < 0 || row->output_tokens > kMost) std::abort();
  }
  const penstock::TraceFaults& faults = (*reader)->faults();
  if (rows + faults.unreadable > static_cast<int64_t>(size) || faults.out_of_order > rows)
    std::abort();
  if ((faults.unreadable + faults.out_of_order > 0) != (faults.first_line > 0)) std::abort();
  return 0;
}
