// API keys in the state file, an SQLite database in WAL mode that processes share.
// Owns the connection. Must not know secrets, only their digests.
// Threads: confined to one at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "access/key_table.h"

struct sqlite3;

namespace penstock {

class KeyStore {
 public:
  /// Makes the file (for its owner alone) and the table where they are missing. Falls back to
  /// reading alone where writing is not possible. Errors are one line: UNAVAILABLE where the file
  /// cannot be opened, DATA_LOSS where it is damaged.
  static absl::StatusOr<std::unique_ptr<KeyStore>> Open(const std::string& path);
  ~KeyStore();

  absl::StatusOr<std::vector<KeyRecord>> List();
  absl::Status Insert(const KeyRecord& record);
  /// NOT_FOUND where there is no such key.
  absl::Status SetRevoked(const std::string& id, absl::Time when);
  /// Adds `next` and lets `id` expire at `when`, both or none.
  absl::Status Replace(const std::string& id, absl::Time when, const KeyRecord& next);
  /// A number that changes when another connection has changed the file.
  absl::StatusOr<int64_t> Version();

 private:
  KeyStore(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  static int Connect(const std::string& name, int flags, sqlite3** db);
  absl::Status Run(const char* sql);
  bool HasModels();
  absl::Status AddModels();
  absl::Status Error(int code) const;

  const std::string path_;
  sqlite3* const db_;
  bool has_models_ = false;  // a column that older files lack
};

}  // namespace penstock
