#include "server/logging.h"

#include <poll.h>
#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "api/http/json_text.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr size_t kQueuedLines = 8192;
constexpr absl::Duration kLastLines = absl::Seconds(3);  // to write what is queued at the end

/// Whether a write would not wait for a reader.
bool StderrTakes() {
  pollfd stderr_poll = {STDERR_FILENO, POLLOUT, 0};
  return poll(&stderr_poll, 1, 0) != 0;
}

struct Logging {
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::logger> logger;
  bool json = false;
};

Logging& State() {
  static Logging state;
  return state;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

/// Text on one line: control characters would let a client forge lines.
std::string OneLine(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return out;
}

void AppendValue(std::string& out, const LogField& field, bool json) {
  if (const auto* text = std::get_if<std::string>(&field.value)) {
    if (json || text->find(' ') != text->npos || text->empty()) {
      AppendJsonString(out, OneLine(*text));
    } else {
      out += OneLine(*text);
    }
  } else if (const auto* number = std::get_if<int64_t>(&field.value)) {
    absl::StrAppend(&out, *number);
  } else if (const auto* real = std::get_if<double>(&field.value)) {
    absl::StrAppend(&out, absl::SixDigits(*real));
  } else {
    out += std::get<bool>(field.value) ? "true" : "false";
  }
}

double Milliseconds(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

}  // namespace

void StartLogging(const ObserveSection& observe) {
  Logging& state = State();
  state.json = observe.log == "json" || (observe.log == "auto" && isatty(STDERR_FILENO) == 0);
  state.pool = std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1);
  state.logger = std::make_shared<spdlog::async_logger>(
      "penstock", std::make_shared<spdlog::sinks::stderr_sink_mt>(), state.pool,
      spdlog::async_overflow_policy::overrun_oldest);
  SetLogLevel(observe.level);
  state.logger->set_pattern(state.json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                                       : "%H:%M:%S.%e %^%L%$ %v");
  state.logger->flush_on(spdlog::level::debug);
}

void SetLogLevel(std::string_view level) {
  const Logging& state = State();
  if (state.logger == nullptr) return;
  state.logger->set_level(
      spdlog::level::from_str(level == "warn" ? "warning" : std::string(level)));
}

bool StopLogging() {
  Logging& state = State();
  if (state.pool == nullptr) return true;
  const absl::Time end = absl::Now() + kLastLines;
  while (state.pool->queue_size() > 0 || !StderrTakes()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  state.pool.reset();  // joins the writer after its last line, which holds the logger until then
  state.logger.reset();
  return true;
}

void Log(LogLevel level, std::string_view message, const std::vector<LogField>& fields) {
  const Logging& state = State();
  if (state.logger == nullptr || !state.logger->should_log(ToSpdlog(level))) return;
  std::string line;
  if (state.json) {
    line = "\"message\":";
    AppendJsonString(line, message);
  } else {
    line = OneLine(message);
  }
  for (const LogField& field : fields) {
    absl::StrAppend(&line, state.json ? ",\"" : "  ", ToAbsl(field.key), state.json ? "\":" : "=");
    AppendValue(line, field, state.json);
  }
  state.logger->log(ToSpdlog(level), spdlog::string_view_t(line));
}

void LoggedRequests::Record(const RequestRecord& record) {
  std::vector<LogField> fields = {
      {"request_id", record.request_id},
      {"model", record.model},
      {"protocol", record.protocol},
      {"trace_id", record.trace_id},
      {"span_id", record.span_id},
      {"code", int64_t{record.code}},
      {"finish", record.finish},
      {"prompt_tokens", record.usage.prompt_tokens},
      {"cached_tokens", record.usage.cached_tokens},
      {"completion_tokens", record.usage.completion_tokens},
      {"stream", record.stream},
      {"queue_ms", Milliseconds(record.queue_time)},
      {"prefill_ms", Milliseconds(record.prefill_time)},
      {"decode_ms", Milliseconds(record.decode_time)},
      {"ttft_ms", Milliseconds(record.first_token_time)},
      {"total_ms", Milliseconds(record.total_time)},
  };
  if (!record.tenant.empty()) fields.push_back({"tenant", record.tenant});
  if (!record.key_id.empty()) fields.push_back({"key_id", record.key_id});
  if (!record.error.empty()) fields.push_back({"error", record.error});
  std::vector<std::string> keys;  // fields hold views
  keys.reserve(record.tags.size());
  for (const auto& [key, value] : record.tags)
    fields.push_back({keys.emplace_back("tag." + key), value});
  Log(record.code >= 500 ? LogLevel::kError : LogLevel::kInfo, "request", fields);
}

}  // namespace penstock
