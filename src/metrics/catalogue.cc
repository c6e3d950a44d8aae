#include "metrics/catalogue.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "metrics/exposition.h"
#include "metrics/process_figures.h"

namespace penstock {
namespace {

constexpr int kCountedCodes[] = {200, 304, 400, 401, 403, 404, 405, 408,
                                 413, 429, 431, 499, 500, 501, 503};

const MetricInfo& Row(std::string_view name) {
  for (const MetricInfo& row : MetricCatalogue()) {
    if (row.name == name) return row;
  }
  CHECK(!"metric is in the catalogue");
  return MetricCatalogue()[0];
}

std::vector<double> Buckets(const MetricInfo& row, int32_t max_context) {
  std::vector<double> bounds;
  if (row.buckets.starts_with("1-2-5")) {
    for (double decade = 1; bounds.empty() || bounds.back() < max_context; decade *= 10) {
      for (double digit : {1.0, 2.0, 5.0}) {
        if (bounds.empty() || digit * decade <= max_context) bounds.push_back(digit * decade);
      }
      if (decade * 10 > max_context) break;
    }
    return bounds;
  }
  for (absl::string_view field : absl::StrSplit(ToAbsl(row.buckets), ',')) {
    double bound = 0;
    CHECK(absl::SimpleAtod(field, &bound));
    bounds.push_back(bound);
  }
  return bounds;
}

// What vLLM called these before, and what older boards ask for.
constexpr std::pair<std::string_view, std::string_view> kLegacyNames[] = {
    {"vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"},
    {"vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds"},
};

void AddLegacyNames(std::vector<prometheus::MetricFamily>& families) {
  for (const auto& [legacy, present] : kLegacyNames) {
    const auto it = std::find_if(families.begin(), families.end(),
                                 [name = present](const auto& f) { return f.name == name; });
    if (it == families.end()) continue;
    prometheus::MetricFamily copy = *it;
    copy.name = std::string(legacy);
    copy.help = std::string(Row(legacy).help);
    families.push_back(std::move(copy));
  }
}

}  // namespace

CounterHandle Catalogue::MakeCounter(std::string_view name, const Labels& labels) {
  const MetricInfo& row = Row(name);
  auto& family = prometheus::BuildCounter()
                     .Name(std::string(row.name))
                     .Help(std::string(row.help))
                     .Register(*registry_);
  return CounterHandle(&family.Add(labels));
}

GaugeHandle Catalogue::MakeGauge(std::string_view name, const Labels& labels) {
  const MetricInfo& row = Row(name);
  auto& family = prometheus::BuildGauge()
                     .Name(std::string(row.name))
                     .Help(std::string(row.help))
                     .Register(*registry_);
  return GaugeHandle(&family.Add(labels));
}

HistogramHandle Catalogue::MakeHistogram(std::string_view name, const Labels& labels,
                                         int32_t max_context) {
  const MetricInfo& row = Row(name);
  auto& family = prometheus::BuildHistogram()
                     .Name(std::string(row.name))
                     .Help(std::string(row.help))
                     .Register(*registry_);
  return HistogramHandle(&family.Add(labels, Buckets(row, max_context)));
}

Catalogue::Catalogue(std::string_view version)
    : registry_(std::make_shared<prometheus::Registry>()) {
  MakeGauge("penstock_build_info", {{"version", std::string(version)}}).Set(1);
  for (int code : kCountedCodes) {
    request_codes_.emplace_back(
        code, MakeCounter("penstock_requests_total", {{"code", std::to_string(code)}}));
  }
  for (const char* reason : {"missing", "unknown", "expired", "revoked", "address", "token",
                             "certificate", "permission"}) {
    auth_failures_.emplace_back(reason,
                                MakeCounter("penstock_auth_failures_total", {{"reason", reason}}));
  }
  request_other_ = MakeCounter("penstock_requests_total", {{"code", "other"}});
  process_cpu_ = MakeCounter("process_cpu_seconds_total", {});
  process_resident_ = MakeGauge("process_resident_memory_bytes", {});
  process_virtual_ = MakeGauge("process_virtual_memory_bytes", {});
  process_open_fds_ = MakeGauge("process_open_fds", {});
  process_max_fds_ = MakeGauge("process_max_fds", {});
  process_start_ = MakeGauge("process_start_time_seconds", {});
}

Catalogue::~Catalogue() = default;

EngineMetrics Catalogue::MakeEngineMetrics(const std::string& model_name) {
  const Labels base = {{"model_name", model_name}, {"engine", "0"}};
  auto with = [&](const char* label, const char* value) {
    Labels labels = base;
    labels[label] = value;
    return labels;
  };
  EngineMetrics m;
  m.num_requests_running = MakeGauge("vllm:num_requests_running", base);
  m.num_requests_waiting = MakeGauge("vllm:num_requests_waiting", base);
  m.num_waiting_for_capacity =
      MakeGauge("vllm:num_requests_waiting_by_reason", with("reason", "capacity"));
  MakeGauge("vllm:num_requests_waiting_by_reason", with("reason", "deferred"));
  for (const char* state : {"awake", "weights_offloaded", "discard_all"}) {
    MakeGauge("vllm:engine_sleep_state", with("sleep_state", state))
        .Set(std::string_view(state) == "awake" ? 1 : 0);
  }
  m.last_step = MakeGauge("penstock_last_step_timestamp_seconds", base);
  m.max_concurrency = MakeGauge("penstock_max_concurrency", base);
  m.kv_cache_usage = MakeGauge("vllm:kv_cache_usage_perc", base);
  m.kv_blocks_used = MakeGauge("penstock_kv_blocks", with("state", "used"));
  m.kv_blocks_cached = MakeGauge("penstock_kv_blocks", with("state", "cached"));
  m.kv_blocks_free = MakeGauge("penstock_kv_blocks", with("state", "free"));
  m.num_preemptions = MakeCounter("vllm:num_preemptions_total", base);
  m.corrupted_requests = MakeCounter("vllm:corrupted_requests_total", base);
  m.prefix_cache_queries = MakeCounter("vllm:prefix_cache_queries_total", base);
  m.prefix_cache_hits = MakeCounter("vllm:prefix_cache_hits_total", base);
  m.tier_queries = MakeCounter("vllm:external_prefix_cache_queries_total", base);
  m.tier_hits = MakeCounter("vllm:external_prefix_cache_hits_total", base);
  m.tier_used = MakeGauge("penstock_kv_offload_blocks", with("state", "used"));
  m.tier_free = MakeGauge("penstock_kv_offload_blocks", with("state", "free"));
  constexpr std::string_view kMoves = "penstock_kv_offload_moves_total";
  m.tier_exported = MakeCounter(kMoves, with("move", "exported"));
  m.tier_imported = MakeCounter(kMoves, with("move", "imported"));
  m.tier_evicted = MakeCounter(kMoves, with("move", "evicted"));
  m.tier_lost = MakeCounter(kMoves, with("move", "lost"));
  m.tier_exported_bytes = MakeCounter("penstock_kv_offload_bytes_total", with("move", "exported"));
  m.tier_imported_bytes = MakeCounter("penstock_kv_offload_bytes_total", with("move", "imported"));
  m.tier_export_seconds =
      MakeCounter("penstock_kv_offload_seconds_total", with("move", "exported"));
  m.tier_import_seconds =
      MakeCounter("penstock_kv_offload_seconds_total", with("move", "imported"));
  m.iteration_tokens = MakeHistogram("vllm:iteration_tokens_total", base);
  m.step_plan = MakeHistogram("penstock_step_seconds", with("phase", "plan"));
  m.step_launch = MakeHistogram("penstock_step_seconds", with("phase", "launch"));
  m.step_masks = MakeHistogram("penstock_step_seconds", with("phase", "masks"));
  m.step_collect = MakeHistogram("penstock_step_seconds", with("phase", "collect"));
  m.step_commit = MakeHistogram("penstock_step_seconds", with("phase", "commit"));
  m.masks_made = MakeCounter("penstock_masks_total", with("made_by", "engine"));
  m.masks_helped = MakeCounter("penstock_masks_total", with("made_by", "helper"));
  m.spec_drafts = MakeCounter("vllm:spec_decode_num_drafts_total", base);
  m.spec_draft_tokens = MakeCounter("vllm:spec_decode_num_draft_tokens_total", base);
  m.spec_accepted_tokens = MakeCounter("vllm:spec_decode_num_accepted_tokens_total", base);
  m.rejected_queue_full = MakeCounter("penstock_queue_rejected_total", with("reason", "full"));
  m.rejected_draining = MakeCounter("penstock_queue_rejected_total", with("reason", "draining"));
  m.rejected_too_large = MakeCounter("penstock_queue_rejected_total", with("reason", "too_large"));
  return m;
}

RequestMetrics Catalogue::MakeRequestMetrics(const std::string& model_name, int32_t max_context) {
  const Labels base = {{"model_name", model_name}, {"engine", "0"}};
  auto with = [&](const char* label, const char* value) {
    Labels labels = base;
    labels[label] = value;
    return labels;
  };
  RequestMetrics m;
  m.prompt_tokens = MakeCounter("vllm:prompt_tokens_total", base);
  m.cached_prompt_tokens = MakeCounter("vllm:prompt_tokens_cached_total", base);
  constexpr std::string_view kBySource = "vllm:prompt_tokens_by_source_total";
  m.computed_prompt_tokens = MakeCounter(kBySource, with("source", "local_compute"));
  m.prompt_tokens_from_cache = MakeCounter(kBySource, with("source", "local_cache_hit"));
  MakeCounter(kBySource, with("source", "external_kv_transfer"));
  m.generation_tokens = MakeCounter("vllm:generation_tokens_total", base);
  m.success_stop = MakeCounter("vllm:request_success_total", with("finished_reason", "stop"));
  m.success_length = MakeCounter("vllm:request_success_total", with("finished_reason", "length"));
  m.success_abort = MakeCounter("vllm:request_success_total", with("finished_reason", "abort"));
  m.success_error = MakeCounter("vllm:request_success_total", with("finished_reason", "error"));
  m.cancelled_disconnect = MakeCounter("penstock_cancelled_total", with("reason", "disconnect"));
  m.cancelled_slow_reader = MakeCounter("penstock_cancelled_total", with("reason", "slow_reader"));
  m.cancelled_deadline = MakeCounter("penstock_cancelled_total", with("reason", "deadline"));
  m.failed_calls = MakeCounter("penstock_failed_tool_calls_total", base);
  m.cancelled_shutdown = MakeCounter("penstock_cancelled_total", with("reason", "shutdown"));
  m.time_to_first_token = MakeHistogram("vllm:time_to_first_token_seconds", base);
  m.inter_token_latency = MakeHistogram("vllm:inter_token_latency_seconds", base);
  m.inter_token_latency_fine = MakeHistogram("penstock_inter_token_latency_seconds", base);
  m.time_per_output_token = MakeHistogram("vllm:request_time_per_output_token_seconds", base);
  m.e2e_latency = MakeHistogram("vllm:e2e_request_latency_seconds", base);
  m.queue_time = MakeHistogram("vllm:request_queue_time_seconds", base);
  m.prefill_time = MakeHistogram("vllm:request_prefill_time_seconds", base);
  m.decode_time = MakeHistogram("vllm:request_decode_time_seconds", base);
  m.inference_time = MakeHistogram("vllm:request_inference_time_seconds", base);
  m.request_prompt_tokens = MakeHistogram("vllm:request_prompt_tokens", base, max_context);
  m.request_generation_tokens = MakeHistogram("vllm:request_generation_tokens", base, max_context);
  m.max_num_generation_tokens =
      MakeHistogram("vllm:request_max_num_generation_tokens", base, max_context);
  m.params_max_tokens = MakeHistogram("vllm:request_params_max_tokens", base, max_context);
  m.params_n = MakeHistogram("vllm:request_params_n", base);
  MakeCounter("penstock_fallbacks_total", {{"model_name", model_name}});  // begins at 0
  return m;
}

void RequestMetrics::CountPrompt(int64_t tokens, int64_t cached) const {
  prompt_tokens.Add(static_cast<double>(tokens));
  cached_prompt_tokens.Add(static_cast<double>(cached));
  computed_prompt_tokens.Add(static_cast<double>(tokens - cached));
  prompt_tokens_from_cache.Add(static_cast<double>(cached));
}

GaugeHandle Catalogue::MakeAliasesReadable() { return MakeGauge("penstock_aliases_readable", {}); }

GaugeHandle Catalogue::MakeCertificateEnd() {
  return MakeGauge("penstock_tls_cert_not_after_seconds", {});
}

GaugeHandle Catalogue::MakeRevocationListsEnd() {
  return MakeGauge("penstock_tls_crl_next_update_seconds", {});
}

GaugeHandle Catalogue::MakeBreakGlassKeys() { return MakeGauge("penstock_breakglass_keys", {}); }

TraceMetrics Catalogue::MakeTraceMetrics() {
  const auto spans = [this](const char* outcome) {
    return MakeCounter("penstock_trace_spans_total", {{"outcome", outcome}});
  };
  return {spans("sent"), spans("dropped"), spans("failed")};
}

void Catalogue::SetCacheConfig(const std::string& model_name, const CacheConfigInfo& info) {
  MakeGauge("vllm:cache_config_info",
            {{"model_name", model_name},
             {"engine", "0"},
             {"block_size", std::to_string(info.block_size)},
             {"num_gpu_blocks", std::to_string(info.num_blocks)},
             {"enable_prefix_caching", info.prefix_cache ? "True" : "False"},
             {"cache_dtype", info.kv_dtype}})
      .Set(1);
}

void Catalogue::SetAdapters(const std::string& model_name, int32_t max_adapters,
                            const std::string& running, const std::string& waiting,
                            absl::Time now) {
  const MetricInfo& row = Row("vllm:lora_requests_info");
  auto& family = prometheus::BuildGauge()
                     .Name(std::string(row.name))
                     .Help(std::string(row.help))
                     .Register(*registry_);
  const std::lock_guard lock(adapters_mutex_);
  prometheus::Gauge*& series = adapters_[model_name];
  if (series != nullptr) family.Remove(series);
  series = &family.Add({{"model_name", model_name},
                        {"engine", "0"},
                        {"max_lora", std::to_string(max_adapters)},
                        {"running_lora_adapters", running},
                        {"waiting_lora_adapters", waiting}});
  series->Set(absl::ToDoubleSeconds(now - absl::UnixEpoch()));
}

void Catalogue::SetKernelSelfTest(const std::string& kernel_set, bool failed) {
  MakeGauge("penstock_kernel_selftest_failed", {{"kernel_set", kernel_set}}).Set(failed ? 1 : 0);
}

void Catalogue::AddChainLink(const std::string& name, HistogramHandle& seconds,
                             CounterHandle& errors) {
  seconds = MakeHistogram("penstock_chain_seconds", {{"link", name}});
  errors = MakeCounter("penstock_chain_errors_total", {{"link", name}});
}

void Catalogue::CountFallback(const std::string& model_name) {
  MakeCounter("penstock_fallbacks_total", {{"model_name", model_name}}).Add();
}

void Catalogue::SetServing(bool ready, bool draining) {
  MakeGauge("penstock_ready", {}).Set(ready ? 1 : 0);
  MakeGauge("penstock_draining", {}).Set(draining ? 1 : 0);
}

void Catalogue::SetConfig(const std::string& hash, bool success, absl::Time when) {
  const MetricInfo& row = Row("penstock_config_hash_info");
  auto& family = prometheus::BuildGauge()
                     .Name(std::string(row.name))
                     .Help(std::string(row.help))
                     .Register(*registry_);
  const std::lock_guard lock(config_mutex_);
  if (config_hash_ != nullptr) family.Remove(config_hash_);
  config_hash_ = &family.Add({{"hash", hash}});
  config_hash_->Set(1);
  MakeGauge("penstock_config_last_reload_success", {}).Set(success ? 1 : 0);
  MakeGauge("penstock_config_last_reload_timestamp_seconds", {})
      .Set(absl::ToDoubleSeconds(when - absl::UnixEpoch()));
}

void Catalogue::CountAuthFailure(std::string_view reason) {
  for (const auto& [known, counter] : auth_failures_) {
    if (known == reason) return counter.Add();
  }
}

void Catalogue::CountRequest(int code) {
  for (const auto& [known, counter] : request_codes_) {
    if (known == code) return counter.Add();
  }
  request_other_.Add();
}

void Catalogue::SetFrontCpu(const CpuParts* parts) {
  std::lock_guard lock(process_mutex_);
  front_cpu_ = parts;
  for (std::string_view part : kFrontParts)
    front_parts_.push_back(
        MakeCounter("penstock_front_cpu_seconds_total", {{"part", std::string(part)}}));
}

void Catalogue::SetGpus(std::function<std::vector<GpuFigures>()> read) {
  const std::lock_guard lock(gpus_mutex_);
  read_gpus_ = std::move(read);
}

void Catalogue::UpdateProcess() {
  std::lock_guard lock(process_mutex_);
  if (front_cpu_ != nullptr) {
    const CpuParts::Seconds sums = front_cpu_->Sums();
    for (size_t i = 0; i < sums.size(); ++i)
      front_parts_[i].Add(std::max(0.0, sums[i] - front_parts_[i].value()));
  }
  const ProcessFigures now = ReadProcessFigures();
  process_cpu_.Add(std::max(0.0, now.cpu_seconds - process_cpu_.value()));
  process_resident_.Set(now.resident_bytes);
  process_virtual_.Set(now.virtual_bytes);
  process_open_fds_.Set(now.open_fds);
  process_max_fds_.Set(now.max_fds);
  process_start_.Set(now.start_time);
}

std::string Catalogue::Text() {
  UpdateProcess();
  std::vector<prometheus::MetricFamily> families = registry_->Collect();
  {
    const std::lock_guard lock(gpus_mutex_);
    if (read_gpus_)
      for (prometheus::MetricFamily& family : GpuFamilies(read_gpus_()))
        families.push_back(std::move(family));
  }
  if (legacy_names_) AddLegacyNames(families);
  return WithPythonBounds(prometheus::TextSerializer().Serialize(families));
}

}  // namespace penstock
