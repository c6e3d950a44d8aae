// What tenants have used, in the state file: a row per server and tenant, absolute figures, so that
// writing them twice is writing them once.
// Owns the connection. Must not know where the figures come from.
// Threads: confined to one at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ledger/usage_book.h"

struct sqlite3;

namespace penstock {

class UsageStore {
 public:
  /// Makes file and tables where they are missing. Errors are one line.
  static absl::StatusOr<std::unique_ptr<UsageStore>> Open(const std::string& path);
  ~UsageStore();

  /// The server that had file N of books last; empty: none did.
  absl::StatusOr<std::string> ServerOf(int number);
  absl::StatusOr<std::vector<UsageRow>> RowsOf(const std::string& server);
  /// All or none.
  absl::Status Write(int number, const std::string& server, const std::vector<UsageRow>& rows);

  /// JSON of all servers' figures together, from the state file, the books beside it and `book` (may
  /// be null), for one tenant or (empty) all: {"usage": [{"tenant", "requests", ...}]}. `state_dir`
  /// empty: of `book` alone.
  static absl::StatusOr<std::string> Report(const std::string& state_dir, const std::string& tenant,
                                            const UsageBook* book);

 private:
  UsageStore(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  static absl::Status ReadState(
      const std::string& path,
      const std::function<void(const std::string& server, const UsageRow& row)>& add);
  absl::Status Run(const char* sql);
  absl::Status Error() const;

  const std::string path_;
  sqlite3* const db_;
};

}  // namespace penstock
