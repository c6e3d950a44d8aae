#include "server/top_frame.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace penstock {
namespace {

constexpr std::string_view kFirstTokenTime = "vllm:time_to_first_token_seconds";
constexpr std::string_view kBetweenTokens = "penstock_inter_token_latency_seconds";
constexpr size_t kBarWidth = 20;

std::string TimeText(double seconds) {
  if (std::isnan(seconds)) return "-";
  if (seconds < 0.01) return absl::StrFormat("%.1f ms", seconds * 1e3);
  if (seconds < 1) return absl::StrFormat("%.0f ms", seconds * 1e3);
  if (seconds < 120) return absl::StrFormat("%.1f s", seconds);
  if (seconds < 7200) return absl::StrFormat("%.0f min", seconds / 60);
  if (seconds < 172800) return absl::StrFormat("%.1f h", seconds / 3600);
  return absl::StrFormat("%.1f days", seconds / 86400);
}

std::string CountText(double value) {
  if (std::isnan(value)) return "-";
  if (value >= 1e6) return absl::StrFormat("%.1fM", value / 1e6);
  if (value >= 1e5) return absl::StrFormat("%.0fk", value / 1e3);
  return absl::StrFormat("%.0f", value);
}

std::string BytesText(double bytes) {
  if (bytes >= 1 << 30) return absl::StrFormat("%.1f GiB", bytes / (1 << 30));
  return absl::StrFormat("%.0f MiB", bytes / (1 << 20));
}

std::string ShareText(double part, double whole) {
  return std::isnan(part) || !(whole > 0) ? "-" : absl::StrFormat("%.0f %%", 100 * part / whole);
}

std::string Bar(double share) {
  const auto filled = static_cast<size_t>(std::lround(std::clamp(share, 0.0, 1.0) * kBarWidth));
  return "[" + std::string(filled, '#') + std::string(kBarWidth - filled, '.') + "]";
}

/// The first `columns` characters of a text of UTF-8, none of which steers a terminal; `width`: how
/// many there are.
std::string Shown(const std::string& text, size_t columns, size_t& width) {
  std::string out;
  size_t at = 0;
  width = 0;
  while (at < text.size() && width < columns) {
    size_t end = at + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    const auto first = static_cast<unsigned char>(text[at]);
    // U+0080 to U+009F are 0xC2 and a byte below 0xA0.
    const bool steers = first < 0x20 || first == 0x7f ||
                        (first == 0xC2 && static_cast<unsigned char>(text[end - 1]) < 0xA0);
    out += steers ? "?" : text.substr(at, end - at);
    at = end;
    ++width;
  }
  return out;
}

std::string Padded(const std::string& text, size_t columns) {
  size_t width = 0;
  std::string out = Shown(text, columns, width);
  return out + std::string(columns - width, ' ');
}

}  // namespace

std::vector<std::string> TopFrame(const std::string& target, const MetricsText& before,
                                  const MetricsText& after, absl::Time now, size_t columns) {
  std::vector<std::string> out;
  const auto rate = [&](std::string_view name, std::string_view model = {}) {
    return RateBetween(before, after, name, model);
  };
  const auto late = [&](std::string_view name, double q, std::string_view model = {}) {
    return TimeText(QuantileBetween(before, after, name, q, model));
  };
  const bool ready = after.Sum("penstock_ready") > 0;
  const char* state = after.Sum("penstock_draining") > 0 ? "draining"
                      : ready                            ? "ready"
                                                         : "not ready";
  const double up =
      absl::ToDoubleSeconds(now - absl::UnixEpoch()) - after.Sum("process_start_time_seconds");
  out.push_back(absl::StrFormat("penstock %s at %s: %s, up %s, configuration %s",
                                after.Label("penstock_build_info", "version"), target, state,
                                TimeText(up), after.Label("penstock_config_hash_info", "hash")));
  out.emplace_back();
  const double answers = rate("penstock_requests_total");
  out.push_back(absl::StrFormat("Requests   %s running of %s, %s waiting, %s answered, %s/s",
                                CountText(after.Sum("vllm:num_requests_running")),
                                CountText(after.Sum("penstock_max_concurrency")),
                                CountText(after.Sum("vllm:num_requests_waiting")),
                                CountText(after.Sum("penstock_requests_total")),
                                std::isnan(answers) ? "-" : absl::StrFormat("%.1f", answers)));
  out.push_back(absl::StrFormat("Tokens     %s/s generated, %s/s of prompts, %s generated so far",
                                CountText(rate("vllm:generation_tokens_total")),
                                CountText(rate("vllm:prompt_tokens_total")),
                                CountText(after.Sum("vllm:generation_tokens_total"))));
  out.push_back(
      absl::StrFormat("Latency    first token %s (95 %%: %s), between tokens %s (95 %%: %s)",
                      late(kFirstTokenTime, 0.5), late(kFirstTokenTime, 0.95),
                      late(kBetweenTokens, 0.5), late(kBetweenTokens, 0.95)));
  const double cache = after.Max("vllm:kv_cache_usage_perc");
  out.push_back(absl::StrFormat(
      "KV cache   %s %.1f %%, prefix hits %s, %s preempted", Bar(cache), cache * 100,
      ShareText(rate("vllm:prefix_cache_hits_total"), rate("vllm:prefix_cache_queries_total")),
      CountText(after.Sum("vllm:num_preemptions_total"))));
  out.push_back(absl::StrFormat(
      "Process    CPU %s, memory %s, %s files of %s, %s callers turned away",
      ShareText(rate("process_cpu_seconds_total"), 1),
      BytesText(after.Sum("process_resident_memory_bytes")),
      CountText(after.Sum("process_open_fds")), CountText(after.Sum("process_max_fds")),
      CountText(after.Sum("penstock_auth_failures_total"))));
  out.emplace_back();
  constexpr size_t kFigures = 54;
  const size_t names = std::clamp<size_t>(columns > kFigures ? columns - kFigures : 0, 12, 40);
  out.push_back(Padded("MODEL", names) + absl::StrFormat("%7s%7s%8s%8s%12s%12s", "RUN", "WAIT",
                                                         "KV %", "TOK/S", "TTFT 95%", "ITL 95%"));
  for (const std::string& model : after.Models()) {
    out.push_back(Padded(model, names) +
                  absl::StrFormat("%7s%7s%8.1f%8s%12s%12s",
                                  CountText(after.Sum("vllm:num_requests_running", model)),
                                  CountText(after.Sum("vllm:num_requests_waiting", model)),
                                  100 * after.Max("vllm:kv_cache_usage_perc", model),
                                  CountText(rate("vllm:generation_tokens_total", model)),
                                  late(kFirstTokenTime, 0.95, model),
                                  late(kBetweenTokens, 0.95, model)));
  }
  if (after.Models().empty()) out.emplace_back("no model is loaded yet");
  size_t width = 0;
  for (std::string& line : out) line = Shown(line, columns, width);
  return out;
}

}  // namespace penstock
