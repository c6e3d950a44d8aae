// API keys in the state file, an SQLite database in WAL mode that processes share.
// Owns the connection. Must not know secrets, only their digests.
// Threads: confined to one at a time.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "access/key_table.h"
#include "format/state_db.h"

namespace penstock {

class KeyStore {
 public:
  /// Makes the file (for its owner alone) and the table where they are missing. Falls back to
  /// reading alone where writing is not possible. Errors are one line: UNAVAILABLE where the file
  /// cannot be opened, DATA_LOSS where it is damaged.
  static absl::StatusOr<std::unique_ptr<KeyStore>> Open(const std::string& path);

  absl::StatusOr<std::vector<KeyRecord>> List();
  absl::Status Insert(const KeyRecord& record);
  /// NOT_FOUND where there is no such key.
  absl::Status SetRevoked(const std::string& id, absl::Time when);
  /// Adds `next` and lets `id` expire at `when`, both or none.
  absl::Status Replace(const std::string& id, absl::Time when, const KeyRecord& next);
  /// A number that changes when another connection has changed the file.
  absl::StatusOr<int64_t> Version() { return db_->Version(); }

 private:
  explicit KeyStore(std::unique_ptr<StateDb> db) : db_(std::move(db)) {}
  bool HasModels();
  absl::Status AddModels();

  const std::unique_ptr<StateDb> db_;
  bool has_models_ = false;  // a column that older files lack
};

}  // namespace penstock
