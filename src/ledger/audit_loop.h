// Writes the audit log: takes events from any thread, chains and signs them on its own.
// Owns its thread, the queue, the open file. Must not know who makes events.
// Threads: thread-safe; Record never waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mailbox.h"
#include "ledger/audit_chain.h"
#include "metrics/catalogue.h"

namespace penstock {

/// One decision: who, what, how it went; no content.
struct AuditEvent {
  using Value = std::variant<std::string, int64_t>;
  absl::Time time;
  std::string_view what;  // a literal: request, denied, reload, ...
  std::vector<std::pair<std::string_view, Value>> fields;  // names are literals
};

class AuditLoop {
 public:
  struct Options {
    std::string dir;
    std::shared_ptr<const AuditKey> key;  // null: checkpoints are not signed
    int64_t rotate_bytes = 64 << 20;
    std::function<absl::Duration()> ttl;       // of files; zero: they stay
    const Clock* clock = &SystemClock::Get();  // of durations; outlives the loop
    AccountMetrics metrics;
    std::function<void(bool failed, std::string_view line)> log;
  };
  /// Goes on where the log in the folder ends. A log that was tampered with, or that cannot be
  /// written, is logged and shown, and no error.
  static std::unique_ptr<AuditLoop> Start(Options options);
  /// Writes what is queued, and a last checkpoint.
  ~AuditLoop();

  /// Lost, and counted, where the queue is full.
  void Record(AuditEvent event);
  /// Events are being written, and there is room for more.
  bool healthy() const { return !failing_ && queued_ < kMaxQueued / 2; }

  static constexpr int64_t kMaxQueued = 16384;

 private:
  explicit AuditLoop(Options options) : options_(std::move(options)) {}
  void Run();
  absl::Status Open();
  absl::Status OpenLast(const std::string& path);
  absl::Status Begin();
  absl::Status Append();
  void Render(const AuditEvent& event);
  void AddLine(std::string_view what, absl::Time time, std::string_view rest);
  void AddCheckpoint();
  bool TooManyDenied(const AuditEvent& event);
  void AddLost(bool last);
  void Write();
  void Show(const absl::Status& status);
  absl::Status WriteHead();
  void DropOld();
  void Complain(const absl::Status& status);

  const Options options_;
  Mailbox<AuditEvent> events_{0};  // bounded by queued_
  std::atomic<int64_t> queued_{0}, lost_{0};
  std::atomic<bool> failing_{false};

  // The loop's thread only, to here.
  int fd_ = -1;
  int64_t size_ = 0;                // of the file; what lies beyond is a line half written
  int64_t first_ = 1, number_ = 0;  // the first line that is there, the last one
  std::string digest_;              // of the last line
  std::string lines_;               // not yet written
  int64_t since_checkpoint_ = 0;    // lines
  absl::Time next_checkpoint_, next_denied_more_;
  int64_t denied_second_ = 0, denied_ = 0, denied_more_ = 0;  // of this second
  bool whole_ = true;                                         // the log was when it was opened
  std::string complaint_;

  std::mutex mutex_;
  std::condition_variable retry_;
  bool stopped_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace penstock
