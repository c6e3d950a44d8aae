// The log: one line per event on stderr, for people on a terminal, as JSON otherwise.
// Owns the asynchronous writer. Must not know prompts or answers: no content is ever logged.
// Threads: thread-safe after StartLogging.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "penstock/config.h"
#include "penstock/service.h"

namespace penstock {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarn, kError };

struct LogField {
  std::string_view key;
  std::variant<std::string, int64_t, double, bool> value;
};

/// Once, before the first line. A full queue drops the oldest lines rather than stall a request.
void StartLogging(const ObserveSection& observe);
/// From now on; `level` as in the configuration.
void SetLogLevel(std::string_view level);
/// Writes what is queued. False where whoever reads the log stands still, for seconds, and with it the
/// writer: nothing but `_Exit` ends the process then.
bool StopLogging();

void Log(LogLevel level, std::string_view message, const std::vector<LogField>& fields = {});

/// Tells several of each request.
class RequestLogs final : public RequestLog {
 public:
  void Add(RequestLog* log) { logs_.push_back(log); }  // before the first request
  void Record(const RequestRecord& record) override {
    for (RequestLog* log : logs_) log->Record(record);
  }

 private:
  std::vector<RequestLog*> logs_;
};

/// One line per finished request.
class LoggedRequests final : public RequestLog {
 public:
  void Record(const RequestRecord& record) override;
};

}  // namespace penstock
