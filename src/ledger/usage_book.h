// What tenants have used, counted as it happens in a file that is mapped into memory: what was
// counted is there after a crash of the process, and counting writes to no disk.
// Owns the mapping; holds a lock on the file while it lives. Must not know SQLite or requests.
// Threads: thread-safe; counting takes no lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

/// Counters of a tenant, from the first request on; they never fall.
struct UsageTotals64 {
  int64_t requests = 0, prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  friend bool operator==(const UsageTotals64&, const UsageTotals64&) = default;
};

/// A tenant's line of the book.
struct UsageRow {
  std::string tenant;
  UsageTotals64 totals;
  int64_t window_end = 0;   // of its budget, in milliseconds since 1970; 0: none
  int64_t window_base = 0;  // tokens when the window began
  friend bool operator==(const UsageRow&, const UsageRow&) = default;
};

class UsageBook {
 public:
  struct Slot;  // a row in the file
  struct Window {
    absl::Time end = absl::InfinitePast();
    int64_t used = 0;
  };

  /// The first of `dir`/usage.N.live that no other process holds; makes it where it is missing, as
  /// large as it will ever be, and anew where it is none of ours.
  static absl::StatusOr<std::shared_ptr<UsageBook>> Open(const std::string& dir);
  /// Without a file: what is counted ends with the process.
  static std::shared_ptr<UsageBook> InMemory();
  ~UsageBook();
  UsageBook(const UsageBook&) = delete;
  UsageBook& operator=(const UsageBook&) = delete;

  /// The tenant's row; all that find no room share one.
  Slot* Of(const std::string& tenant);
  /// Tokens of the tenant's budget that were taken in its window.
  Window WindowOf(const std::string& tenant);
  /// Counts from nothing, unless the window that ends so is counted already.
  void BeginWindow(const std::string& tenant, absl::Time end);
  /// Raises a row to what another record of it has, and takes its window where it has none.
  void Merge(const UsageRow& row);
  std::vector<UsageRow> Rows() const;

  /// Tells this book from others; kept in the file.
  const std::string& server_id() const { return server_id_; }
  int number() const { return number_; }   // N of the file; -1: none
  bool was_made() const { return made_; }  // by Open
  /// Before anything is counted: the name that the file had before it was lost.
  void set_server_id(const std::string& id);

  /// A file in `dir`, of a book that lives or of one that does not.
  struct File {
    int number = 0;
    std::string server;
    std::vector<UsageRow> rows;
  };
  static std::vector<File> ReadAll(const std::string& dir);

 private:
  UsageBook() = default;
  absl::Status Map(int fd, bool fresh);
  static absl::Status Check(const char* bytes);
  void Index();

  std::string server_id_;
  int number_ = -1, fd_ = -1;
  bool made_ = false;
  char* bytes_ = nullptr;  // header, then slots

  mutable std::mutex mutex_;  // guards from here
  absl::flat_hash_map<std::string, Slot*> slots_;
};

/// Counts one call. A default-made one counts nothing.
class UsageMeter {
 public:
  UsageMeter() = default;
  UsageMeter(std::shared_ptr<UsageBook> book, const std::string& tenant);
  /// Once is enough, further times are none.
  void CountRequest(int64_t prompt_tokens);
  void CountOutput(int64_t tokens) const;
  void CountCached(int64_t tokens) const;
  /// Of what was counted so many tokens are not of the budget.
  void Discount(int64_t tokens) const;

 private:
  std::shared_ptr<UsageBook> book_;
  UsageBook::Slot* slot_ = nullptr;
  bool counted_ = false;
};

}  // namespace penstock
