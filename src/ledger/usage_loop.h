// Writes what the book of usage counts into the state file, once a second.
// Owns its thread, the book and the connection. Must not know requests.
// Threads: Start before anything else; the book is thread-safe.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "ledger/usage_book.h"
#include "ledger/usage_store.h"
#include "metrics/handles.h"

namespace penstock {

class UsageLoop {
 public:
  using LogLine = std::function<void(bool failed, std::string_view line)>;
  /// Takes the figures of the process before. What cannot be read or written is logged and counted
  /// in `errors`; the server runs without. An empty `state_dir`: figures end with the process.
  static std::unique_ptr<UsageLoop> Start(const std::string& state_dir, CounterHandle errors,
                                          LogLine log);
  /// Writes once more.
  ~UsageLoop();

  const std::shared_ptr<UsageBook>& book() const { return book_; }

 private:
  UsageLoop(std::string path, CounterHandle errors, LogLine log)
      : path_(std::move(path)), errors_(errors), log_(std::move(log)) {}
  void Run();
  void Write();
  absl::Status Restore();
  absl::Status WriteChanged();
  void Complain(const absl::Status& status);

  const std::string path_;  // of the state file
  const CounterHandle errors_;
  const LogLine log_;
  std::shared_ptr<UsageBook> book_;
  std::unique_ptr<UsageStore> store_;        // null: to be opened
  bool restored_ = false;                    // what the state file knew is in the book
  std::map<std::string, UsageRow> written_;  // by tenant
  std::string complaint_;                    // that the log knows

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace penstock
