#include "bench/workload.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr size_t kBlockWords = 512;  // of a trace's blocks

/// " abc" words: near one token each in the vocabularies of the field.
void AppendWords(std::mt19937_64& random, int64_t count, std::string& out) {
  static constexpr std::string_view kLetters = "etaoinshrdlu";
  for (int64_t i = 0; i < count; ++i) {
    out += ' ';
    for (int j = 0; j < 3; ++j) out += kLetters[random() % kLetters.size()];
  }
}

std::mt19937_64 WordsOf(uint64_t seed, uint64_t index) {
  return std::mt19937_64(seed * 0x9E3779B97F4A7C15ULL + index + 1);
}

}  // namespace

Workload::Workload(const Scenario& scenario)
    : scenario_(scenario), arrivals_(scenario.seed), thoughts_(scenario.seed + 1) {}
Workload::~Workload() = default;

absl::StatusOr<std::unique_ptr<Workload>> Workload::Open(const Scenario& scenario) {
  RETURN_IF_ERROR(CheckScenario(scenario));
  std::unique_ptr<Workload> workload(new Workload(scenario));
  if (!scenario.trace.empty()) {
    ASSIGN_OR_RETURN(workload->trace_, TraceReader::Open(scenario.trace));
  }
  return workload;
}

std::optional<PlannedRequest> Workload::Next() {
  if (next_ >= scenario_.requests) return std::nullopt;
  PlannedRequest request;
  request.max_tokens = scenario_.max_tokens;
  request.prompt_words = scenario_.prompt_words;
  if (trace_ != nullptr) {
    std::optional<TraceRow> row = trace_->Next();
    if (!row.has_value()) return std::nullopt;
    request.due = row->at / scenario_.trace_speed;
    request.prompt_words = std::max(1, row->prompt_tokens);
    request.max_tokens = std::max(1, row->output_tokens);
    request.blocks = std::move(row->blocks);
  } else if (scenario_.rate > 0) {
    // The first of a burst draws the gap to the burst before; the rate is that of its place.
    if (next_ % scenario_.burst == 0) {
      const double share = static_cast<double>(next_) / scenario_.requests;
      const double end = scenario_.rate_end > 0 ? scenario_.rate_end : scenario_.rate;
      const double rate = scenario_.rate + (end - scenario_.rate) * share;
      std::gamma_distribution<> gap(scenario_.burstiness,
                                    scenario_.burst / (rate * scenario_.burstiness));
      at_ += gap(arrivals_);
    }
    request.due = at_;
  }
  if (trace_ == nullptr && scenario_.min_words > 0 &&
      scenario_.min_words < scenario_.prompt_words) {
    std::mt19937_64 length = WordsOf(~scenario_.seed, next_);
    request.prompt_words =
        std::uniform_int_distribution<int32_t>(scenario_.min_words, scenario_.prompt_words)(length);
  }
  request.index = next_++;
  return request;
}

std::string Workload::Prompt(const PlannedRequest& request) const {
  std::string prompt;
  int64_t left = request.prompt_words;
  for (const uint64_t block : request.blocks) {
    const int64_t words = std::min<int64_t>(left, kBlockWords);
    std::mt19937_64 random = WordsOf(scenario_.seed + 2, block);
    AppendWords(random, words, prompt);
    left -= words;
  }
  if (request.blocks.empty()) {
    const int64_t shared = std::min<int64_t>(scenario_.prefix_words, left);
    std::mt19937_64 prefix(scenario_.prefix_seed == 0 ? scenario_.seed : scenario_.prefix_seed);
    AppendWords(prefix, shared, prompt);
    left -= shared;
  }
  std::mt19937_64 random = WordsOf(scenario_.seed, request.index);
  AppendWords(random, left, prompt);
  return prompt;
}

std::string Workload::Body(const PlannedRequest& request, const std::string& model,
                           nlohmann::json* messages) const {
  nlohmann::json body = {{"model", model},
                         {"max_tokens", request.max_tokens},
                         {"temperature", scenario_.temperature},
                         {"stream", scenario_.stream}};
  if (scenario_.temperature > 0) body["seed"] = scenario_.seed + request.index;
  if (scenario_.ignore_eos) body["ignore_eos"] = true;
  if (scenario_.stream) body["stream_options"] = {{"include_usage", true}};
  if (scenario_.endpoint == "chat") {
    messages->push_back({{"role", "user"}, {"content", Prompt(request)}});
    body["messages"] = *messages;
  } else {
    body["prompt"] = Prompt(request);
  }
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

double Workload::ThinkTime() {
  if (scenario_.think_seconds <= 0) return 0;
  return std::exponential_distribution<>(1 / scenario_.think_seconds)(thoughts_);
}

}  // namespace penstock
