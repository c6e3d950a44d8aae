#include "server/grafana_panels.h"

namespace penstock {
namespace {

constexpr auto kNow = PanelKind::kNow;
constexpr auto kMost = PanelKind::kMost;
constexpr auto kRate = PanelKind::kRate;
constexpr auto kQuantiles = PanelKind::kQuantiles;
constexpr auto kHeat = PanelKind::kHeat;
constexpr auto kMean = PanelKind::kMean;
constexpr auto kQuery = PanelKind::kQuery;

constexpr BoardPanel kOverview[] = {
    {"Now", "Servers ready", kNow, "penstock_ready", "", "", "none"},
    {"", "Requests running", kNow, "vllm:num_requests_running", "model_name"},
    {"", "Requests waiting", kNow, "vllm:num_requests_waiting", "model_name"},
    {"", "Share of answers that are errors", kQuery, "penstock_requests_total", "",
     "sum(rate(penstock_requests_total{code=~\"5..\",{S}}[$__rate_interval])) / "
     "sum(rate(penstock_requests_total{{S}}[$__rate_interval]))",
     "percentunit"},
    {"Work", "Tokens generated", kRate, "vllm:generation_tokens_total", "model_name"},
    {"", "Prompt tokens", kRate, "vllm:prompt_tokens_total", "model_name"},
    {"", "Answers by status", kRate, "penstock_requests_total", "code"},
    {"", "Ends of choices", kRate, "vllm:request_success_total", "finished_reason"},
    {"Latency", "Time to first token", kQuantiles, "vllm:time_to_first_token_seconds"},
    {"", "Time between tokens", kQuantiles, "penstock_inter_token_latency_seconds"},
    {"Room", "KV cache in use", kMost, "vllm:kv_cache_usage_perc", "model_name"},
    {"", "Running of what may run", kQuery, "penstock_max_concurrency", "",
     "sum by (model_name) (vllm:num_requests_running{{M}}) / sum by (model_name) "
     "(penstock_max_concurrency{{M}})",
     "percentunit"},
    {"Process", "CPU", kRate, "process_cpu_seconds_total", "instance", "", "none"},
    {"", "Memory", kNow, "process_resident_memory_bytes", "instance"},
    {"", "Open files of those allowed", kQuery, "process_max_fds", "",
     "process_open_fds{{S}} / process_max_fds{{S}}", "percentunit"},
    {"", "Kernels that failed their self-test", kNow, "penstock_kernel_selftest_failed",
     "kernel_set,instance"},
};

constexpr BoardPanel kLatency[] = {
    {"What clients wait for", "Time to first token", kQuantiles,
     "vllm:time_to_first_token_seconds"},
    {"", "Time between tokens", kQuantiles, "penstock_inter_token_latency_seconds"},
    {"", "Time per output token", kQuantiles, "vllm:request_time_per_output_token_seconds"},
    {"", "Whole request", kQuantiles, "vllm:e2e_request_latency_seconds"},
    {"", "Time to first token, all", kHeat, "vllm:time_to_first_token_seconds"},
    {"", "Time between tokens, all", kHeat, "penstock_inter_token_latency_seconds"},
    {"Where the time goes", "Queue", kQuantiles, "vllm:request_queue_time_seconds"},
    {"", "Prefill", kQuantiles, "vllm:request_prefill_time_seconds"},
    {"", "Decode", kQuantiles, "vllm:request_decode_time_seconds"},
    {"", "In the engine", kMean, "vllm:request_inference_time_seconds", "model_name"},
    {"What is asked", "Prompt tokens of a request", kHeat, "vllm:request_prompt_tokens"},
    {"", "Generated tokens of a choice", kHeat, "vllm:request_generation_tokens"},
    {"", "max_tokens", kMean, "vllm:request_params_max_tokens", "model_name"},
    {"", "Choices of a request", kMean, "vllm:request_params_n", "model_name"},
    {"", "Longest choice", kMean, "vllm:request_max_num_generation_tokens", "model_name"},
    {"Chain", "Links of the chain", kQuery, "penstock_chain_seconds", "",
     "histogram_quantile(0.95, sum by (link, le) "
     "(rate(penstock_chain_seconds_bucket{{S}}[$__rate_interval])))",
     "s"},
    {"", "Links that failed", kRate, "penstock_chain_errors_total", "link"},
};

constexpr BoardPanel kCache[] = {
    {"KV cache", "KV cache in use", kMost, "vllm:kv_cache_usage_perc", "model_name"},
    {"", "Blocks", kNow, "penstock_kv_blocks", "state"},
    {"", "Prefix cache hits", kQuery, "vllm:prefix_cache_hits_total", "",
     "sum by (model_name) (rate(vllm:prefix_cache_hits_total{{M}}[$__rate_interval])) / sum by "
     "(model_name) (rate(vllm:prefix_cache_queries_total{{M}}[$__rate_interval]))",
     "percentunit"},
    {"", "Layout", kNow, "vllm:cache_config_info",
     "model_name,block_size,num_gpu_blocks,cache_dtype", "", "none"},
    {"Second tier of the prefix cache", "Hits of what was not found on the device", kQuery,
     "vllm:external_prefix_cache_hits_total", "",
     "sum by (model_name) (rate(vllm:external_prefix_cache_hits_total{{M}}[$__rate_interval])) / "
     "sum by (model_name) "
     "(rate(vllm:external_prefix_cache_queries_total{{M}}[$__rate_interval]))",
     "percentunit"},
    {"", "Places", kNow, "penstock_kv_offload_blocks", "state"},
    {"", "Blocks moved", kRate, "penstock_kv_offload_moves_total", "move"},
    {"", "Bytes moved", kRate, "penstock_kv_offload_bytes_total", "move"},
    {"", "Speed of copies", kQuery, "penstock_kv_offload_seconds_total", "",
     "sum by (move) (rate(penstock_kv_offload_bytes_total{{M}}[$__rate_interval])) / "
     "sum by (move) (rate(penstock_kv_offload_seconds_total{{M}}[$__rate_interval]))",
     "Bps"},
    {"Scheduler", "Requests running", kNow, "vllm:num_requests_running", "model_name"},
    {"", "Requests waiting", kNow, "vllm:num_requests_waiting", "model_name"},
    {"", "Preemptions", kRate, "vllm:num_preemptions_total", "model_name"},
    {"", "Refused by engines", kRate, "penstock_queue_rejected_total", "reason"},
    {"", "Ended early", kRate, "penstock_cancelled_total", "reason"},
    {"", "Since the last step", kQuery, "penstock_last_step_timestamp_seconds", "",
     "time() - max by (model_name, instance) (penstock_last_step_timestamp_seconds{{M}})", "s"},
    {"Steps", "Phases of a step", kQuery, "penstock_step_seconds", "",
     "histogram_quantile(0.95, sum by (phase, le) "
     "(rate(penstock_step_seconds_bucket{{M}}[$__rate_interval])))",
     "s"},
    {"", "Positions of a step", kHeat, "vllm:iteration_tokens_total"},
    {"Speculation", "Drafts that were right", kQuery, "vllm:spec_decode_num_accepted_tokens_total",
     "",
     "sum by (model_name) "
     "(rate(vllm:spec_decode_num_accepted_tokens_total{{M}}[$__rate_interval])) "
     "/ sum by (model_name) "
     "(rate(vllm:spec_decode_num_draft_tokens_total{{M}}[$__rate_interval]))",
     "percentunit"},
    {"", "Drafts", kRate, "vllm:spec_decode_num_drafts_total", "model_name"},
    {"Adapters and fallbacks", "Adapters", kNow, "vllm:lora_requests_info",
     "max_lora,running_lora_adapters,waiting_lora_adapters", "", "dateTimeAsIso"},
    {"", "Answered by another model", kRate, "penstock_fallbacks_total", "model_name"},
    {"", "Calls of functions that were none", kRate, "penstock_failed_tool_calls_total",
     "model_name"},
};

constexpr BoardPanel kTenants[] = {
    {"Who calls", "Callers turned away", kRate, "penstock_auth_failures_total", "reason"},
    {"", "Break-glass keys", kNow, "penstock_breakglass_keys", "instance"},
    {"", "Answers by status", kRate, "penstock_requests_total", "code"},
    {"Tenants of the configuration", "Requests", kRate, "penstock_tenant_requests_total", "tenant"},
    {"", "Turned away", kRate, "penstock_tenant_rejected_total", "tenant"},
    {"", "Prompt tokens", kRate, "penstock_tenant_prompt_tokens_total", "tenant"},
    {"", "Generated tokens", kRate, "penstock_tenant_generation_tokens_total", "tenant"},
    {"", "Wait in the queue per request", kQuery, "penstock_tenant_queue_seconds_total", "",
     "sum by (tenant) (rate(penstock_tenant_queue_seconds_total{{S}}[$__rate_interval])) / "
     "sum by (tenant) (rate(penstock_tenant_requests_total{{S}}[$__rate_interval]))",
     "s"},
    {"Limits of several servers", "Redis answers", kNow, "penstock_shared_limits_up", "instance"},
    {"", "Reservations", kRate, "penstock_shared_limits_total", "outcome"},
    {"", "Time for a reservation", kQuantiles, "penstock_shared_limits_seconds"},
    {"What is kept", "Usage that could not be written", kRate, "penstock_usage_write_errors_total",
     "instance"},
    {"", "Audit lines", kRate, "penstock_audit_lines_total", "instance"},
    {"", "Audit lines lost", kRate, "penstock_audit_write_errors_total", "instance"},
    {"", "Audit chain whole", kNow, "penstock_audit_chain_ok", "instance"},
    {"", "Spans", kRate, "penstock_trace_spans_total", "outcome"},
};

constexpr BoardPanel kRollouts[] = {
    {"Versions", "Servers by version", kQuery, "penstock_build_info", "",
     "count by (version) (penstock_build_info{{S}})", "none"},
    {"", "Servers by configuration", kQuery, "penstock_config_hash_info", "",
     "count by (hash) (penstock_config_hash_info{{S}})", "none"},
    {"", "Ready", kNow, "penstock_ready", "instance"},
    {"", "Draining", kNow, "penstock_draining", "instance"},
    {"Configuration", "Last reload taken", kNow, "penstock_config_last_reload_success", "instance"},
    {"", "Since the last reload", kQuery, "penstock_config_last_reload_timestamp_seconds", "",
     "time() - penstock_config_last_reload_timestamp_seconds{{S}}", "s"},
    {"", "Up for", kQuery, "process_start_time_seconds", "",
     "time() - process_start_time_seconds{{S}}", "s"},
    {"", "Aliases read", kNow, "penstock_aliases_readable", "instance"},
    {"", "Certificate ends in", kQuery, "penstock_tls_cert_not_after_seconds", "",
     "penstock_tls_cert_not_after_seconds{{S}} - time()", "s"},
    {"", "Revocation list ends in", kQuery, "penstock_tls_crl_next_update_seconds", "",
     "penstock_tls_crl_next_update_seconds{{S}} - time()", "s"},
    {"Before and after", "Errors by version", kQuery, "penstock_build_info", "",
     "sum by (version) (rate(penstock_requests_total{code=~\"5..\",{S}}[$__rate_interval]) * "
     "on (instance) group_left (version) penstock_build_info{{S}})",
     "reqps"},
    {"", "Time between tokens by version", kQuery, "penstock_inter_token_latency_seconds", "",
     "histogram_quantile(0.95, sum by (version, le) "
     "(rate(penstock_inter_token_latency_seconds_bucket{{M}}[$__rate_interval]) * on (instance) "
     "group_left (version) penstock_build_info{{S}}))",
     "s"},
};

constexpr BoardPanel kGpus[] = {
    {"Now", "GPUs that answer", kNow, "penstock_gpu_up", "gpu,instance", "", "none"},
    {"", "Which they are", kNow, "penstock_gpu_info", "gpu,name,uuid,driver,instance", "", "none"},
    {"Work", "Time with a kernel running", kMost, "penstock_gpu_utilization_ratio", "gpu,instance"},
    {"", "Time with memory busy", kMost, "penstock_gpu_memory_busy_ratio", "gpu,instance"},
    {"", "Memory in use", kQuery, "penstock_gpu_memory_used_bytes", "",
     "penstock_gpu_memory_used_bytes{{S}} / penstock_gpu_memory_total_bytes{{S}}", "percentunit"},
    {"", "Tokens generated per joule", kQuery, "vllm:generation_tokens_total", "",
     "sum(rate(vllm:generation_tokens_total{{S}}[$__rate_interval])) / "
     "sum(penstock_gpu_power_watts{{S}})",
     "none"},
    {"Heat and power", "Temperature", kMost, "penstock_gpu_temperature_celsius", "gpu,instance"},
    {"", "Power", kMost, "penstock_gpu_power_watts", "gpu,instance"},
    {"", "Power of what is allowed", kQuery, "penstock_gpu_power_limit_watts", "",
     "penstock_gpu_power_watts{{S}} / penstock_gpu_power_limit_watts{{S}}", "percentunit"},
    {"", "Energy over time", kRate, "penstock_gpu_energy_joules_total", "gpu,instance", "", "watt"},
    {"", "Clocks", kMost, "penstock_gpu_clock_hertz", "clock,gpu,instance"},
    {"", "Clocks held back", kMost, "penstock_gpu_throttled", "reason,gpu,instance", "", "none"},
    {"Faults", "Errors of memory", kRate, "penstock_gpu_ecc_errors_total", "type,gpu,instance"},
    {"", "Rows of memory to replace", kMost, "penstock_gpu_row_remap", "state,gpu,instance", "",
     "none"},
    {"", "Faults of the driver", kRate, "penstock_gpu_xid_errors_total", "gpu,instance"},
    {"", "Last fault", kMost, "penstock_gpu_last_xid", "gpu,instance", "", "none"},
};

constexpr BoardPlan kPlans[] = {
    {"overview", "Penstock: overview", "Whether servers are well, and how much they do.",
     kOverview},
    {"latency", "Penstock: latency", "What clients wait for, and where it goes.", kLatency},
    {"cache-scheduler", "Penstock: cache and scheduler",
     "The KV cache, the queue, steps and speculation.", kCache},
    {"tenants", "Penstock: tenants",
     "Who is turned away, what tenants ask, limits that servers share, what is kept of calls. What "
     "counts for a bill is no metric: penstock admin usage tells it.",
     kTenants},
    {"rollouts", "Penstock: rollouts",
     "Which versions and configurations are out, and whether they differ in what clients see.",
     kRollouts},
    {"gpus", "Penstock: GPUs",
     "How the GPUs are that serve. Empty where none does, or where NVIDIA's management library is "
     "missing.",
     kGpus},
};

}  // namespace

absl::Span<const BoardPlan> BoardPlans() { return kPlans; }

}  // namespace penstock
