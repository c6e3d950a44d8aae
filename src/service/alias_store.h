// Aliases of models in the state file: what each points at now, and every change there ever was.
// Owns the connection. Must not know which models are served.
// Threads: confined to one at a time; processes may share the file.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "format/state_db.h"

namespace penstock {

/// What an alias means at present.
struct AliasPointer {
  std::string alias, to, who;
  absl::Time since;
};

/// One line of the history; lines are never changed.
struct AliasChange {
  int64_t number = 0;  // rises by the order of changes; 0: nothing was to be changed
  std::string alias, from, to, who, reason;  // from, to: empty: there was, or is, no such alias
  absl::Time when;
};

/// What somebody wants of an alias.
struct AliasWish {
  std::string alias;
  std::optional<std::string> to;  // empty: the alias is to go; none: back to what it was before
  std::optional<std::string> if_match;  // what it must mean at present; empty: nothing
  std::string who, reason;
};

class AliasStore {
 public:
  /// Makes file and tables where they are missing. UNAVAILABLE: one line about the file.
  static absl::StatusOr<std::unique_ptr<AliasStore>> Open(const std::string& path);

  absl::StatusOr<std::vector<AliasPointer>> List();
  /// The last `most` changes of an alias or (empty) all, the oldest of them first.
  absl::StatusOr<std::vector<AliasChange>> History(const std::string& alias, int64_t most);
  /// The number of the newest change; 0: there is none.
  absl::StatusOr<int64_t> Last();
  absl::StatusOr<int64_t> Version();

  /// Pointer and history, both or none. `check` judges what the alias is to mean, unless it is to
  /// go. ABORTED where if_match does not hold, NOT_FOUND for one to go that is not there,
  /// FAILED_PRECONDITION where there is nothing to go back to.
  absl::StatusOr<AliasChange> Change(
      const AliasWish& wish, const std::function<absl::Status(const std::string& to)>& check);

 private:
  explicit AliasStore(std::unique_ptr<StateDb> db) : db_(std::move(db)) {}
  absl::StatusOr<std::string> TextOf(const char* sql,
                                     std::initializer_list<std::string_view> values);
  absl::StatusOr<AliasChange> ChangeInside(
      const AliasWish& wish, const std::function<absl::Status(const std::string& to)>& check);
  absl::Status Write(AliasChange& change);

  const std::unique_ptr<StateDb> db_;
};

}  // namespace penstock
