// Every metric of the server, declared once: name, help, labels, buckets; and the handles to their
// series.
// Owns the registry and all series. Must not know what is measured.
// Threads: thread-safe; the handles too.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/cpu_parts.h"
#include "metrics/gpu_figures.h"
#include "metrics/handles.h"
#include "metrics/http_metrics.h"

namespace prometheus {
class Registry;
}

namespace penstock {

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

/// One row of the catalogue.
struct MetricInfo {
  std::string_view name;
  MetricType type;
  std::string_view labels;  // comma-separated label names
  std::string_view
      buckets;  // histograms: upper bounds, comma-separated, or "1-2-5 up to the context"
  std::string_view help;
};

/// All rows, in the order of the documentation.
absl::Span<const MetricInfo> MetricCatalogue();

/// docs/metrics.md, generated from the rows.
std::string CatalogueMarkdown();

/// What one engine sets and bumps on its thread.
struct EngineMetrics {
  GaugeHandle num_requests_running;
  GaugeHandle num_requests_waiting;
  GaugeHandle num_waiting_for_capacity;
  GaugeHandle last_step;  // seconds since 1970
  GaugeHandle max_concurrency;
  GaugeHandle kv_cache_usage;    // [0, 1]
  GaugeHandle kv_blocks_used;    // held by live requests
  GaugeHandle kv_blocks_cached;  // hold a reusable prefix, nobody uses them now
  GaugeHandle kv_blocks_free;
  CounterHandle num_preemptions;
  CounterHandle corrupted_requests;
  CounterHandle prefix_cache_queries;  // tokens
  CounterHandle prefix_cache_hits;     // tokens
  CounterHandle tier_queries;          // tokens, of the second tier
  CounterHandle tier_hits;             // tokens
  GaugeHandle tier_used, tier_free;    // blocks
  CounterHandle tier_exported, tier_imported, tier_evicted, tier_lost;  // blocks
  CounterHandle tier_exported_bytes, tier_imported_bytes;
  CounterHandle tier_export_seconds, tier_import_seconds;
  HistogramHandle iteration_tokens;  // positions per step
  HistogramHandle step_plan;         // seconds
  HistogramHandle step_launch;
  HistogramHandle step_masks;
  HistogramHandle step_collect;
  HistogramHandle step_commit;
  CounterHandle masks_made;    // of rows, on the engine's thread
  CounterHandle masks_helped;  // beside it
  CounterHandle spec_drafts;
  CounterHandle spec_draft_tokens;
  CounterHandle spec_accepted_tokens;
  CounterHandle rejected_queue_full;
  CounterHandle rejected_draining;
  CounterHandle rejected_too_large;  // can never run
};

/// What the service bumps for one model's requests; histograms are observed off the engine thread.
struct RequestMetrics {
  CounterHandle prompt_tokens;
  CounterHandle cached_prompt_tokens;
  CounterHandle computed_prompt_tokens;    // by source
  CounterHandle prompt_tokens_from_cache;  // likewise
  CounterHandle generation_tokens;
  CounterHandle success_stop;
  CounterHandle success_length;
  CounterHandle success_abort;
  CounterHandle success_error;
  CounterHandle cancelled_disconnect;
  CounterHandle cancelled_slow_reader;
  CounterHandle cancelled_deadline;
  CounterHandle cancelled_shutdown;
  CounterHandle failed_calls;           // of functions
  HistogramHandle time_to_first_token;  // all in seconds
  HistogramHandle inter_token_latency;
  HistogramHandle inter_token_latency_fine;
  HistogramHandle time_per_output_token;
  HistogramHandle e2e_latency;
  HistogramHandle queue_time;
  HistogramHandle prefill_time;
  HistogramHandle decode_time;
  HistogramHandle inference_time;
  HistogramHandle request_prompt_tokens;
  HistogramHandle request_generation_tokens;
  HistogramHandle max_num_generation_tokens;
  HistogramHandle params_max_tokens;
  HistogramHandle params_n;

  /// The prompt of an answered request, in tokens; `cached` of them were in the prefix cache.
  void CountPrompt(int64_t tokens, int64_t cached) const;
};

/// What became of spans.
struct TraceMetrics {
  CounterHandle sent, dropped, failed;
};

/// Of shared limits, usage and the audit log.
struct AccountMetrics {
  GaugeHandle shared_up;
  CounterHandle shared_admitted, shared_refused, shared_outage;
  HistogramHandle shared_seconds;
  CounterHandle usage_write_errors;
  CounterHandle audit_lines, audit_write_errors;
  GaugeHandle audit_chain_ok;
};

/// Of one tenant's requests.
struct TenantMetrics {
  CounterHandle requests, rejected;
  CounterHandle prompt_tokens, generation_tokens;
  CounterHandle queue_seconds;
};

/// The facts of vllm:cache_config_info.
struct CacheConfigInfo {
  int32_t block_size = 0;
  int32_t num_blocks = 0;
  bool prefix_cache = true;
  std::string kv_dtype;
};

class Catalogue {
 public:
  explicit Catalogue(std::string_view version);
  ~Catalogue();
  Catalogue(const Catalogue&) = delete;
  Catalogue& operator=(const Catalogue&) = delete;

  EngineMetrics MakeEngineMetrics(const std::string& model_name);
  /// `max_context` bounds the buckets of the token histograms.
  RequestMetrics MakeRequestMetrics(const std::string& model_name, int32_t max_context);
  /// http_*, of requests that the route of this template and method answers; empty handles for what
  /// probes and scrapers ask.
  HttpRouteMetrics MakeHttpRouteMetrics(const std::string& handler, const std::string& method);
  TraceMetrics MakeTraceMetrics();
  GaugeHandle MakeAliasesReadable();
  GaugeHandle MakeCertificateEnd();
  GaugeHandle MakeRevocationListsEnd();
  GaugeHandle MakeBreakGlassKeys();
  AccountMetrics MakeAccountMetrics();
  /// penstock_tenant_*; whoever asks bounds how many there are.
  TenantMetrics MakeTenantMetrics(const std::string& tenant);
  void SetCacheConfig(const std::string& model_name, const CacheConfigInfo& info);
  /// vllm:lora_requests_info: names separated by commas. The model's last series goes.
  void SetAdapters(const std::string& model_name, int32_t max_adapters, const std::string& running,
                   const std::string& waiting, absl::Time now);
  /// penstock_kernel_selftest_failed{kernel_set}.
  void SetKernelSelfTest(const std::string& kernel_set, bool failed);
  /// penstock_config_*: the configuration in force, and how reading it last went.
  void SetConfig(const std::string& hash, bool success, absl::Time when);
  /// penstock_ready and penstock_draining.
  void SetServing(bool ready, bool draining);
  /// penstock_requests_total{code}: one answered request, by HTTP status.
  void CountRequest(int code);
  /// penstock_chain_seconds and penstock_chain_errors_total of one link.
  void AddChainLink(const std::string& name, HistogramHandle& seconds, CounterHandle& errors);
  /// penstock_fallbacks_total: `model_name` of the configuration was to answer, and another does.
  void CountFallback(const std::string& model_name);
  /// penstock_front_cpu_seconds_total; `parts` outlives the catalogue. Before the first page.
  void SetFrontCpu(const CpuParts* parts);
  /// penstock_gpu_*: what `read` says whenever a page is made, on the thread that asks for it.
  void SetGpus(std::function<std::vector<GpuFigures>()> read);
  /// `reason`: a label of penstock_auth_failures_total.
  void CountAuthFailure(std::string_view reason);
  /// observe.legacy_names: pages have the names that vLLM has dropped as well. Before the first page.
  void EmitLegacyNames() { legacy_names_ = true; }

  /// The page of GET /metrics; reads the process's own figures first.
  std::string Text();

 private:
  using Labels = std::map<std::string, std::string>;
  CounterHandle MakeCounter(std::string_view name, const Labels& labels);
  GaugeHandle MakeGauge(std::string_view name, const Labels& labels);
  HistogramHandle MakeHistogram(std::string_view name, const Labels& labels,
                                int32_t max_context = 0);
  void UpdateProcess();

  std::shared_ptr<prometheus::Registry> registry_;
  bool legacy_names_ = false;
  std::vector<std::pair<int, CounterHandle>> request_codes_;  // fixed after construction
  CounterHandle request_other_;
  std::vector<std::pair<std::string_view, CounterHandle>> auth_failures_;  // likewise
  std::mutex adapters_mutex_;                           // guards what it stands before
  std::map<std::string, prometheus::Gauge*> adapters_;  // by model
  std::mutex config_mutex_;                             // guards the next
  prometheus::Gauge* config_hash_ = nullptr;            // with the hash as its label
  std::mutex gpus_mutex_;                               // guards the next
  std::function<std::vector<GpuFigures>()> read_gpus_;
  std::mutex process_mutex_;  // guards the scrape of the process's figures
  const CpuParts* front_cpu_ = nullptr;
  std::vector<CounterHandle> front_parts_;  // in the order of kFrontParts
  CounterHandle process_cpu_;
  GaugeHandle process_resident_, process_virtual_, process_open_fds_, process_max_fds_,
      process_start_;
};

}  // namespace penstock
