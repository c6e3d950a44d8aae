// The rows of the catalogue and the page made from them.
#include "absl/strings/str_cat.h"
#include "base/strings.h"
#include "metrics/catalogue.h"

namespace penstock {
namespace {

constexpr auto kCounter = MetricType::kCounter;
constexpr auto kGauge = MetricType::kGauge;
constexpr auto kHistogram = MetricType::kHistogram;
constexpr std::string_view kEngineLabels = "model_name,engine";
constexpr std::string_view kGpuLabels = "gpu,uuid";
constexpr std::string_view kFirstToken =
    ".001,.005,.01,.02,.04,.06,.08,.1,.25,.5,.75,1,2.5,5,7.5,10,20,40,80,160,640,2560";
constexpr std::string_view kPerToken =
    ".01,.025,.05,.075,.1,.15,.2,.3,.4,.5,.75,1,2.5,5,7.5,10,20,40,80";
constexpr std::string_view kPerRequest =
    ".3,.5,.8,1,1.5,2,2.5,5,10,15,20,30,40,50,60,120,240,480,960,1920,7680";
constexpr std::string_view kTokens = "1-2-5 up to the context";
constexpr std::string_view kFine =
    ".00025,.0005,.00075,.001,.0015,.002,.003,.004,.006,.008,.012,.016,.025,.04,.06,.1,.2,.5,1,2.5,"
    "10";
constexpr std::string_view kStep =
    ".00001,.00002,.00005,.0001,.0002,.0005,.001,.002,.005,.01,.02,.05,.1,.2,.5,1,2,5";

constexpr MetricInfo kRows[] = {
    {"vllm:num_requests_running", kGauge, kEngineLabels, "", "Requests in the running batch."},
    {"vllm:num_requests_waiting", kGauge, kEngineLabels, "", "Requests waiting to be run."},
    {"vllm:num_requests_waiting_by_reason", kGauge, "model_name,engine,reason", "",
     "The same by reason: capacity, all of them; deferred, by what else must come first: none."},
    {"vllm:engine_sleep_state", kGauge, "model_name,engine,sleep_state", "",
     "1: the state of the engine, always awake; 0: weights_offloaded and discard_all, which it has "
     "not."},
    {"vllm:kv_cache_usage_perc", kGauge, kEngineLabels, "",
     "Share of the KV blocks held by live requests, 0 to 1."},
    {"vllm:cache_config_info", kGauge,
     "model_name,engine,block_size,num_gpu_blocks,enable_prefix_caching,cache_dtype", "",
     "Constant 1; the labels describe the KV cache."},
    {"vllm:lora_requests_info", kGauge,
     "model_name,engine,max_lora,running_lora_adapters,waiting_lora_adapters", "",
     "The time of the scrape in seconds since 1970; the labels name the adapters of requests that "
     "run and of those that only wait, and say how many different ones a step may have."},
    {"vllm:prompt_tokens_total", kCounter, kEngineLabels, "",
     "Prompt tokens of answered requests."},
    {"vllm:prompt_tokens_cached_total", kCounter, kEngineLabels, "",
     "Of these, found in the prefix cache."},
    {"vllm:prompt_tokens_by_source_total", kCounter, "model_name,engine,source", "",
     "The same prompt tokens by source: local_compute; local_cache_hit, found in the prefix cache; "
     "external_kv_transfer, from another server: none."},
    {"vllm:generation_tokens_total", kCounter, kEngineLabels, "",
     "Generated tokens handed to clients, up to the stop."},
    {"vllm:request_success_total", kCounter, "model_name,engine,finished_reason", "",
     "Finished choices by reason: stop, length, abort, error."},
    {"vllm:num_preemptions_total", kCounter, kEngineLabels, "",
     "Times a running request gave up its blocks to be computed again later."},
    {"vllm:corrupted_requests_total", kCounter, kEngineLabels, "",
     "Requests that failed because no token had a number for its probability."},
    {"vllm:prefix_cache_queries_total", kCounter, kEngineLabels, "",
     "Prompt tokens looked up in the prefix cache."},
    {"vllm:prefix_cache_hits_total", kCounter, kEngineLabels, "",
     "Prompt tokens found in the prefix cache."},
    {"vllm:external_prefix_cache_queries_total", kCounter, kEngineLabels, "",
     "Prompt tokens not found there that were looked up in its second tier (engine.kv_offload)."},
    {"vllm:external_prefix_cache_hits_total", kCounter, kEngineLabels, "",
     "Prompt tokens taken from the second tier."},
    {"vllm:spec_decode_num_drafts_total", kCounter, kEngineLabels, "",
     "Draft runs that were verified."},
    {"vllm:spec_decode_num_draft_tokens_total", kCounter, kEngineLabels, "",
     "Draft tokens that were verified."},
    {"vllm:spec_decode_num_accepted_tokens_total", kCounter, kEngineLabels, "",
     "Draft tokens that were accepted."},
    {"vllm:time_to_first_token_seconds", kHistogram, kEngineLabels, kFirstToken,
     "Arrival of a request to its first token."},
    {"vllm:inter_token_latency_seconds", kHistogram, kEngineLabels, kPerToken,
     "Time between two steps that gave a request tokens."},
    {"vllm:request_time_per_output_token_seconds", kHistogram, kEngineLabels, kPerToken,
     "Mean time per output token after the first, per request."},
    {"vllm:e2e_request_latency_seconds", kHistogram, kEngineLabels, kPerRequest,
     "Arrival to last token."},
    {"vllm:request_queue_time_seconds", kHistogram, kEngineLabels, kPerRequest,
     "Submitted to first planned."},
    {"vllm:request_inference_time_seconds", kHistogram, kEngineLabels, kPerRequest,
     "First planned to last token."},
    {"vllm:request_prefill_time_seconds", kHistogram, kEngineLabels, kPerRequest,
     "First planned to first token."},
    {"vllm:request_decode_time_seconds", kHistogram, kEngineLabels, kPerRequest,
     "First token to last token."},
    {"vllm:request_prompt_tokens", kHistogram, kEngineLabels, kTokens,
     "Prompt tokens per request."},
    {"vllm:request_generation_tokens", kHistogram, kEngineLabels, kTokens,
     "Generated tokens per choice."},
    {"vllm:request_max_num_generation_tokens", kHistogram, kEngineLabels, kTokens,
     "Generated tokens of the longest choice of a request."},
    {"vllm:request_params_max_tokens", kHistogram, kEngineLabels, kTokens,
     "max_tokens as asked or defaulted."},
    {"vllm:request_params_n", kHistogram, kEngineLabels, "1,2,5,10,20", "n as asked."},
    {"vllm:iteration_tokens_total", kHistogram, kEngineLabels,
     "1,8,16,32,64,128,256,512,1024,2048,4096,8192,16384", "Positions computed per step."},
    {"penstock_kv_offload_blocks", kGauge, "model_name,engine,state", "",
     "Places of the second tier by state: used by a block, free."},
    {"penstock_kv_offload_moves_total", kCounter, "model_name,engine,move", "",
     "Blocks exported to the second tier, imported from it, evicted there for others; lost: not "
     "exported, since copies had taken a tenth of the time."},
    {"penstock_kv_offload_bytes_total", kCounter, "model_name,engine,move", "",
     "Bytes exported to the second tier and imported from it."},
    {"penstock_kv_offload_seconds_total", kCounter, "model_name,engine,move", "",
     "Time of steps that these copies took."},
    {"penstock_inter_token_latency_seconds", kHistogram, kEngineLabels, kFine,
     "As vllm:inter_token_latency_seconds, with buckets from 0.25 ms."},
    {"penstock_step_seconds", kHistogram, "model_name,engine,phase", kStep,
     "Time of one phase of a step: plan, launch, masks (made on the engine's thread or waited "
     "for), "
     "collect, commit."},
    {"penstock_masks_total", kCounter, "model_name,engine,made_by", "",
     "Rows for which a grammar said what may be drawn: by engine, its thread, or by helper, beside "
     "the forward pass."},
    {"penstock_kv_blocks", kGauge, "model_name,engine,state", "",
     "KV blocks by state: used by live requests, cached prefixes, free."},
    {"penstock_queue_rejected_total", kCounter, "model_name,engine,reason", "",
     "Requests that an engine refused: full, draining, too_large."},
    {"penstock_cancelled_total", kCounter, "model_name,engine,reason", "",
     "Choices that ended early: disconnect, slow_reader, deadline, shutdown."},
    {"penstock_failed_tool_calls_total", kCounter, "model_name,engine", "",
     "What began as a call of a function, was none and became content."},
    {"penstock_requests_total", kCounter, "code", "",
     "Answered requests by HTTP status; 499: the client went away."},
    {"http_requests_total", kCounter, "handler,method,status", "",
     "HTTP requests of the public port that have ended, by the path of their route (none: no "
     "route, or none that could be read), its method (none: another) and 2xx to 5xx; a client that "
     "left before its answer began is 4xx. Without /health, /ready, /metrics, /metrics/lb and "
     "/version."},
    {"http_request_duration_seconds", kHistogram, "handler,method", ".1,.5,1",
     "First byte of these requests until their answer was whole, or the client left; without what "
     "was refused before it was a request."},
    {"http_request_duration_highr_seconds", kHistogram, "",
     ".01,.025,.05,.075,.1,.25,.5,.75,1,1.5,2,2.5,3,3.5,4,4.5,5,7.5,10,30,60",
     "The same of all routes together, with more buckets."},
    {"penstock_front_cpu_seconds_total", kCounter, "part", "",
     "CPU time of the threads in front of the engines, by part: http, access, json, chain (on the "
     "way in), limits, template, tokenizer, requests (what else they take), answers. gRPC's own "
     "threads are not counted."},
    {"penstock_chain_seconds", kHistogram, "link",
     ".000001,.000002,.000005,.00001,.00002,.00005,.0001,.0002,.0005,.001,.002,.005,.01,.05,.1,.5,"
     "1,5",
     "What a link of the chain took for one call, its way in and its way out apart."},
    {"penstock_chain_errors_total", kCounter, "link", "",
     "Phases in which a link failed, took too long or ran away; what it denies is none."},
    {"penstock_fallbacks_total", kCounter, "model_name", "",
     "Requests that another model answered in the place of this one."},
    {"penstock_auth_failures_total", kCounter, "reason", "",
     "Calls turned away for who makes them, by reason."},
    {"penstock_kernel_selftest_failed", kGauge, "kernel_set", "",
     "1: a set of kernels that this processor runs, but that disagreed with plain arithmetic and "
     "is "
     "not used."},
    {"penstock_gpu_info", kGauge, "gpu,uuid,name,pci_address,driver", "",
     "Constant 1; the labels describe a GPU that serves. NVIDIA's management library tells all of "
     "penstock_gpu_*; where it is missing there is none, and no series of what a GPU does not "
     "tell."},
    {"penstock_gpu_up", kGauge, kGpuLabels, "",
     "1: the GPU answers; 0: it is lost, must be reset, or the driver has not answered in a "
     "second."},
    {"penstock_gpu_utilization_ratio", kGauge, kGpuLabels, "",
     "Share of the driver's last period, a second at most, in which a kernel ran, 0 to 1."},
    {"penstock_gpu_memory_busy_ratio", kGauge, kGpuLabels, "",
     "Share of that period in which memory was read or written, 0 to 1."},
    {"penstock_gpu_memory_used_bytes", kGauge, kGpuLabels, "",
     "Memory in use, by whichever process, and what the driver keeps."},
    {"penstock_gpu_memory_total_bytes", kGauge, kGpuLabels, "", "Memory of the GPU."},
    {"penstock_gpu_temperature_celsius", kGauge, kGpuLabels, "", "Temperature of the chip."},
    {"penstock_gpu_power_watts", kGauge, kGpuLabels, "", "Power that the whole board draws."},
    {"penstock_gpu_power_limit_watts", kGauge, kGpuLabels, "",
     "Power that it may draw, by the tightest limit."},
    {"penstock_gpu_energy_joules_total", kCounter, kGpuLabels, "",
     "Energy since the driver was loaded."},
    {"penstock_gpu_clock_hertz", kGauge, "gpu,uuid,clock", "",
     "Clocks now: sm, of the multiprocessors, and memory."},
    {"penstock_gpu_throttled", kGauge, "gpu,uuid,reason", "",
     "1: clocks are held back for this reason: power_cap (a limit of power), sw_thermal and "
     "hw_thermal (heat), hw_power_brake (the power supply asks for it), hw_slowdown (one of the "
     "two "
     "before, "
     "by hardware), sync_boost (another GPU's clocks)."},
    {"penstock_gpu_ecc_errors_total", kCounter, "gpu,uuid,type", "",
     "Errors of memory since the driver was loaded: corrected, uncorrected."},
    {"penstock_gpu_row_remap", kGauge, "gpu,uuid,state", "",
     "pending 1: rows of memory are replaced at the next reset; failed 1: there are none left to "
     "replace one."},
    {"penstock_gpu_xid_errors_total", kCounter, kGpuLabels, "",
     "Faults that the driver has reported while this server ran (Xid)."},
    {"penstock_gpu_last_xid", kGauge, kGpuLabels, "", "Number of the last of them; 0: none."},
    {"penstock_last_step_timestamp_seconds", kGauge, kEngineLabels, "",
     "When the engine last made a step, in seconds since 1970."},
    {"penstock_max_concurrency", kGauge, kEngineLabels, "",
     "Requests that the engine computes at once (engine.max_batch)."},
    {"penstock_ready", kGauge, "", "", "1: /ready is 200."},
    {"penstock_draining", kGauge, "", "",
     "1: the server is about to end: announced, draining or failed."},
    {"penstock_config_hash_info", kGauge, "hash", "",
     "Constant 1; the label is of the configuration in force, equal for equal ones."},
    {"penstock_config_last_reload_success", kGauge, "", "",
     "1: the configuration was taken when it was last read; 0: refused, the one before is in "
     "force."},
    {"penstock_config_last_reload_timestamp_seconds", kGauge, "", "",
     "When the configuration was last read, in seconds since 1970."},
    {"penstock_aliases_readable", kGauge, "", "",
     "1: the aliases of state.db are read as they change; 0: they cannot be, and those read last "
     "stay; only with registry.aliases: local."},
    {"penstock_tls_cert_not_after_seconds", kGauge, "", "",
     "When the certificate in use ends, in seconds since 1970; only with tls."},
    {"penstock_tls_crl_next_update_seconds", kGauge, "", "",
     "When the first revocation list of tls.client_crl_file ends, in seconds since 1970; only with "
     "one."},
    {"penstock_breakglass_keys", kGauge, "", "",
     "Keys of penstock admin breakglass that are valid now, in server.state_dir."},
    {"penstock_trace_spans_total", kCounter, "outcome", "",
     "Spans by what became of them: sent, dropped (the queue was full), failed (the collector was "
     "not reached, or did not take them)."},
    {"penstock_shared_limits_up", kGauge, "", "",
     "1: the Redis of limits.shared answers; 0: on_outage is in force, or there is none."},
    {"penstock_shared_limits_total", kCounter, "outcome", "",
     "Reservations asked of Redis: admitted, refused, outage (decided without it)."},
    {"penstock_shared_limits_seconds", kHistogram, "", kStep,
     "Time a request waited for Redis to decide on it."},
    {"penstock_tenant_requests_total", kCounter, "tenant", "",
     "Requests of a tenant that the configuration names, or of anonymous, answered or refused; all "
     "others are \"other\"."},
    {"penstock_tenant_rejected_total", kCounter, "tenant", "",
     "Of these, refused with 429 or 503: by a limit, a full queue, a guard that fails or a server "
     "that takes none."},
    {"penstock_tenant_prompt_tokens_total", kCounter, "tenant", "",
     "Prompt tokens of a tenant's requests."},
    {"penstock_tenant_generation_tokens_total", kCounter, "tenant", "",
     "Tokens generated for a tenant."},
    {"penstock_tenant_queue_seconds_total", kCounter, "tenant", "",
     "Time that a tenant's requests waited before their first step."},
    {"penstock_usage_write_errors_total", kCounter, "", "",
     "Times that what tenants used could not be written to state.db; nothing is lost while the "
     "process or its counters' file lives."},
    {"penstock_audit_lines_total", kCounter, "", "", "Lines written to the audit log."},
    {"penstock_audit_write_errors_total", kCounter, "", "",
     "Lines of the audit log that were lost or could not be written."},
    {"penstock_audit_chain_ok", kGauge, "", "",
     "1: the audit log is being written and its chain is whole; 0: it is not, or it is off."},
    {"penstock_build_info", kGauge, "version", "", "Constant 1; the labels describe the build."},
    {"vllm:gpu_cache_usage_perc", kGauge, kEngineLabels, "",
     "As vllm:kv_cache_usage_perc; only with observe.legacy_names."},
    {"vllm:time_per_output_token_seconds", kHistogram, kEngineLabels, kPerToken,
     "As vllm:inter_token_latency_seconds; only with observe.legacy_names."},
    {"process_cpu_seconds_total", kCounter, "", "", "CPU time of the process."},
    {"process_resident_memory_bytes", kGauge, "", "", "Resident memory of the process."},
    {"process_virtual_memory_bytes", kGauge, "", "", "Virtual memory of the process."},
    {"process_open_fds", kGauge, "", "", "Open file descriptors."},
    {"process_max_fds", kGauge, "", "", "Limit of open file descriptors."},
    {"process_start_time_seconds", kGauge, "", "", "Start of the process, in seconds since 1970."},
};

std::string_view TypeName(MetricType type) {
  switch (type) {
    case kCounter:
      return "counter";
    case kGauge:
      return "gauge";
    case kHistogram:
      return "histogram";
  }
  return "?";
}

}  // namespace

absl::Span<const MetricInfo> MetricCatalogue() { return kRows; }

std::string CatalogueMarkdown() {
  std::string page =
      "# Metrics\n\nGenerated from `src/metrics/rows.cc`. `GET /metrics` serves them as Prometheus "
      "text; bounds of buckets are written as Python's client does (`le=\"1.0\"`, "
      "`le=\"1e+06\"`).\n\n"
      "| name | type | labels | meaning | buckets |\n|---|---|---|---|---|\n";
  for (const MetricInfo& row : kRows) {
    absl::StrAppend(&page, "| `", ToAbsl(row.name), "` | ", ToAbsl(TypeName(row.type)), " | ",
                    ToAbsl(row.labels), " | ", ToAbsl(row.help), " | ", ToAbsl(row.buckets),
                    " |\n");
  }
  return page;
}

}  // namespace penstock
