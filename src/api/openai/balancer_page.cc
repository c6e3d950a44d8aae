#include "api/openai/balancer_page.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/strings.h"
#include "base/wall_time.h"
#include "service/predicted_wait.h"

namespace penstock {
namespace {

/// A sample of a gauge, as the text format has it.
void AppendGauge(std::string& out, std::string_view name, std::string_view labels, double value) {
  absl::StrAppend(&out, "# TYPE ", ToAbsl(name), " gauge\n", ToAbsl(name), ToAbsl(labels), " ");
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  absl::StrAppend(&out, text, "\n");
}

/// Adapters' names come from clients' files.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace

std::string BalancerPage(const GenerationService& service) {
  int64_t running = 0, waiting = 0, blocks = 0;
  int32_t block_size = 0;
  double kv_usage = 0;
  absl::Duration wait;
  absl::Time last_step = absl::UnixEpoch();
  std::set<std::string> running_adapters, waiting_adapters;
  const auto models = service.models().List();
  for (const auto& model : models) {
    const EngineLoad load = model->engine->load();
    const auto named = [&](const std::vector<AdapterId>& ids) {
      return std::find(ids.begin(), ids.end(), model->adapter) != ids.end();
    };
    if (!model->parent.empty()) {
      if (named(load.running_adapters)) running_adapters.insert(model->name);
      if (named(load.waiting_adapters)) waiting_adapters.insert(model->name);
      continue;  // its engine is its parent's
    }
    const EngineInfo info = model->engine->info();
    running += load.num_running;
    waiting += load.num_waiting;
    blocks += info.num_blocks;
    block_size = std::max(block_size, info.block_size);
    kv_usage = std::max(kv_usage, load.kv_usage);
    wait = std::max(wait, PredictedWait(load, 0, ""));
    last_step = std::max(last_step, load.last_step);
  }
  int64_t max_lora = 0;
  for (const auto& [name, model] : service.config().Get()->models) {
    if (!model.lora.dir.empty() || !model.lora.adapters.empty())
      max_lora += model.lora.max_adapters;
  }
  const auto seconds = [](absl::Time time) {
    return absl::ToDoubleSeconds(time - absl::UnixEpoch());
  };
  std::string out;
  AppendGauge(out, "vllm:num_requests_running", "", static_cast<double>(running));
  AppendGauge(out, "vllm:num_requests_waiting", "", static_cast<double>(waiting));
  AppendGauge(out, "vllm:kv_cache_usage_perc", "", kv_usage);
  AppendGauge(out, "vllm:cache_config_info",
              absl::StrCat("{block_size=\"", block_size, "\",num_gpu_blocks=\"", blocks, "\"}"), 1);
  AppendGauge(
      out, "vllm:lora_requests_info",
      absl::StrCat("{max_lora=\"", max_lora,
                   "\",running_lora_adapters=", Quoted(absl::StrJoin(running_adapters, ",")),
                   ",waiting_lora_adapters=", Quoted(absl::StrJoin(waiting_adapters, ",")), "}"),
      seconds(absl::Now()));
  AppendGauge(out, "penstock_ready", "", service.Ready().ok() ? 1 : 0);
  AppendGauge(out, "penstock_draining", "", service.phase() == ServingPhase::kServing ? 0 : 1);
  AppendGauge(out, "penstock_queue_predicted_wait_seconds", "", absl::ToDoubleSeconds(wait));
  AppendGauge(out, "penstock_last_step_timestamp_seconds", "",
              seconds(WallTime(service.clock(), last_step)));
  return out;
}

}  // namespace penstock
