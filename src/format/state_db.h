// A connection to an SQLite database in WAL mode that processes share, and statements on it.
// Owns the connection. Must not know what is in the tables.
// Threads: confined to one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct sqlite3;
struct sqlite3_stmt;

namespace penstock {

class StateDb {
 public:
  /// Makes the file (for its owner alone) and, by the statements `make_tables`, what is missing in
  /// it. Falls back to reading alone where writing is not possible. Errors are one line:
  /// UNAVAILABLE where the file cannot be opened, DATA_LOSS where it is damaged.
  static absl::StatusOr<std::unique_ptr<StateDb>> Open(const std::string& path,
                                                       const char* make_tables);
  ~StateDb();

  bool read_only() const;
  sqlite3* get() const { return db_; }
  /// Runs statements that bind nothing.
  absl::Status Run(const char* sql);
  /// Every page of a table; DATA_LOSS names what is wrong.
  absl::Status CheckTable(std::string_view table);
  /// A number that changes when another connection has changed the file.
  absl::StatusOr<int64_t> Version();
  /// What SQLite says of the last call, which gave `code`. FAILED_PRECONDITION: nothing can be
  /// written.
  absl::Status Error(int code) const;

 private:
  StateDb(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  static int Connect(const std::string& name, int flags, sqlite3** db);

  const std::string path_;
  sqlite3* const db_;
};

/// One prepared statement: bound from the left, stepped and read.
class Statement {
 public:
  Statement(const StateDb& db, const char* sql);
  ~Statement();
  Statement(const Statement&) = delete;

  void Bind(std::string_view text, bool blob = false);
  void Bind(int64_t number);
  /// Seconds since 1970; null for InfiniteFuture.
  void Bind(absl::Time time);
  /// Whether there is a row.
  bool Step();
  int code() const { return code_; }
  bool done() const;

  std::string Text(int column) const;
  int64_t Number(int column) const;
  absl::Time Time(int column) const;

 private:
  void Keep(int code);

  sqlite3_stmt* statement_ = nullptr;
  int code_ = 0;  // SQLite's
  int column_ = 0;
};

}  // namespace penstock
