// What the audit log costs a request: for the thread that answers it, and in all (chain, signatures and writing
// included). Limit: 10 us.
#include <benchmark/benchmark.h>
#include <time.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "ledger/audit_loop.h"

namespace penstock {
namespace {

double CpuOf(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

AuditEvent Request() {
  AuditEvent event;
  event.what = "request";
  event.fields.reserve(10);
  event.fields.emplace_back("request", "cmpl-0123456789abcdef0123456789abcdef");
  event.fields.emplace_back("tenant", "clinic");
  event.fields.emplace_back("key", "a1b2c3d4");
  event.fields.emplace_back("model", "chat");
  event.fields.emplace_back("protocol", "http");
  event.fields.emplace_back("code", int64_t{200});
  event.fields.emplace_back("outcome", "stop");
  event.fields.emplace_back("prompt_tokens", int64_t{1234});
  event.fields.emplace_back("cached_tokens", int64_t{1024});
  event.fields.emplace_back("completion_tokens", int64_t{321});
  return event;
}

void BM_AuditRequest(benchmark::State& state) {
  const std::string dir = std::filesystem::temp_directory_path() / "penstock_audit_bench";
  std::filesystem::remove_all(dir);
  AuditLoop::Options options;
  options.dir = dir;
  options.log = [](bool, std::string_view) {};
  const double caller = CpuOf(CLOCK_THREAD_CPUTIME_ID), all = CpuOf(CLOCK_PROCESS_CPUTIME_ID);
  double spent = 0, waited = 0;
  {
    const auto loop = AuditLoop::Start(options);
    for (auto _ : state) {
      loop->Record(Request());
      if (loop->healthy())
        continue;  // the writer is to keep up: what it has not done counts as well
      const double begin = CpuOf(CLOCK_THREAD_CPUTIME_ID);
      while (!loop->healthy()) sched_yield();
      waited += CpuOf(CLOCK_THREAD_CPUTIME_ID) - begin;
    }
    spent = CpuOf(CLOCK_THREAD_CPUTIME_ID) - caller - waited;
  }
  const auto n = static_cast<double>(state.iterations());
  state.counters["caller_us"] = spent / n * 1e6;
  state.counters["all_us"] = (CpuOf(CLOCK_PROCESS_CPUTIME_ID) - all - waited) / n * 1e6;
  std::filesystem::remove_all(dir);
}
BENCHMARK(BM_AuditRequest)->Iterations(200000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace penstock

BENCHMARK_MAIN();
