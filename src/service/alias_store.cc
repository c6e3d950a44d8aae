#include "service/alias_store.h"

#include <sqlite3.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "service/call_error.h"

namespace penstock {
namespace {

constexpr char kAliasTables[] =
    "CREATE TABLE IF NOT EXISTS aliases(alias TEXT PRIMARY KEY NOT NULL, target TEXT NOT NULL, "
    "who TEXT NOT NULL, since INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS alias_history(number INTEGER PRIMARY KEY AUTOINCREMENT, "
    "alias TEXT NOT NULL, \"from\" TEXT NOT NULL, \"to\" TEXT NOT NULL, who TEXT NOT NULL, "
    "\"when\" INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;"
    "CREATE INDEX IF NOT EXISTS alias_history_of ON alias_history(alias, number);"
    "CREATE TRIGGER IF NOT EXISTS alias_history_stays BEFORE UPDATE ON alias_history "
    "BEGIN SELECT RAISE(ABORT, 'alias_history is only added to'); END;"
    "CREATE TRIGGER IF NOT EXISTS alias_history_is_not_replaced BEFORE INSERT ON alias_history "
    "WHEN EXISTS(SELECT 1 FROM alias_history WHERE number = NEW.number) "
    "BEGIN SELECT RAISE(ABORT, 'alias_history is only added to'); END;"
    "CREATE TRIGGER IF NOT EXISTS alias_history_is_kept BEFORE DELETE ON alias_history "
    "BEGIN SELECT RAISE(ABORT, 'alias_history is only added to'); END;";

/// Whatever is wrong with the file, nobody can do anything about it but its operator.
absl::Status OfFile(const absl::Status& status) {
  return status.ok() ? status : absl::UnavailableError(status.message());
}

std::string QuotedTarget(const std::string& target) {
  return target.empty() ? "nothing" : absl::StrCat("\"", Shown(target), "\"");
}

}  // namespace

absl::StatusOr<std::unique_ptr<AliasStore>> AliasStore::Open(const std::string& path) {
  absl::StatusOr<std::unique_ptr<StateDb>> db = StateDb::Open(path, kAliasTables);
  if (!db.ok()) return OfFile(db.status());
  for (const char* table : {"aliases", "alias_history"})
    RETURN_IF_ERROR(OfFile((*db)->CheckTable(table)));
  return std::unique_ptr<AliasStore>(new AliasStore(*std::move(db)));
}

absl::StatusOr<std::vector<AliasPointer>> AliasStore::List() {
  Statement rows(*db_, "SELECT alias, target, who, since FROM aliases ORDER BY alias");
  std::vector<AliasPointer> out;
  while (rows.Step()) {
    out.push_back({rows.Text(0), rows.Text(1), rows.Text(2), absl::FromUnixMillis(rows.Number(3))});
  }
  if (!rows.done()) return OfFile(db_->Error(rows.code()));
  return out;
}

absl::StatusOr<std::vector<AliasChange>> AliasStore::History(const std::string& alias,
                                                             int64_t most) {
  Statement rows(*db_,
                 "SELECT number, alias, \"from\", \"to\", who, reason, \"when\" FROM alias_history "
                 "WHERE ?1 IN ('', alias) ORDER BY number DESC LIMIT ?2");
  rows.Bind(alias);
  rows.Bind(most);
  std::vector<AliasChange> out;
  while (rows.Step()) {
    out.push_back({rows.Number(0), rows.Text(1), rows.Text(2), rows.Text(3), rows.Text(4),
                   rows.Text(5), absl::FromUnixMillis(rows.Number(6))});
  }
  if (!rows.done()) return OfFile(db_->Error(rows.code()));
  std::reverse(out.begin(), out.end());
  return out;
}

absl::StatusOr<int64_t> AliasStore::Last() {
  Statement last(*db_, "SELECT max(number) FROM alias_history");  // null, read as 0: none
  if (!last.Step()) return OfFile(db_->Error(last.code()));
  return last.Number(0);
}

absl::StatusOr<int64_t> AliasStore::Version() {
  const absl::StatusOr<int64_t> version = db_->Version();
  if (!version.ok()) return OfFile(version.status());
  return *version;
}

/// The first column of the first row; empty: there is none.
absl::StatusOr<std::string> AliasStore::TextOf(const char* sql,
                                               std::initializer_list<std::string_view> values) {
  Statement row(*db_, sql);
  for (const std::string_view value : values) row.Bind(value);
  if (row.Step()) return row.Text(0);
  if (!row.done()) return OfFile(db_->Error(row.code()));
  return std::string();
}

absl::Status AliasStore::Write(AliasChange& change) {
  const bool goes = change.to.empty();
  {
    Statement pointer(*db_, goes ? "DELETE FROM aliases WHERE alias = ?1"
                                 : "INSERT OR REPLACE INTO aliases VALUES(?1, ?2, ?3, ?4)");
    pointer.Bind(change.alias);
    if (!goes) {
      pointer.Bind(change.to);
      pointer.Bind(change.who);
      pointer.Bind(absl::ToUnixMillis(change.when));
    }
    pointer.Step();
    if (!pointer.done()) return db_->Error(pointer.code());
  }
  Statement line(*db_,
                 "INSERT INTO alias_history(alias, \"from\", \"to\", who, reason, \"when\") "
                 "VALUES(?, ?, ?, ?, ?, ?)");
  for (const std::string* text :
       {&change.alias, &change.from, &change.to, &change.who, &change.reason})
    line.Bind(*text);
  line.Bind(absl::ToUnixMillis(change.when));
  line.Step();
  if (!line.done()) return db_->Error(line.code());
  change.number = sqlite3_last_insert_rowid(db_->get());
  return absl::OkStatus();
}

absl::StatusOr<AliasChange> AliasStore::ChangeInside(
    const AliasWish& wish, const std::function<absl::Status(const std::string& to)>& check) {
  AliasChange change{0, wish.alias, "", wish.to.value_or(""), wish.who, wish.reason, absl::Now()};
  ASSIGN_OR_RETURN(change.from, TextOf("SELECT target FROM aliases WHERE alias = ?", {wish.alias}));
  if (wish.if_match && *wish.if_match != change.from) {
    return WithField(absl::AbortedError(absl::StrCat(
                         "if_match: expected ", QuotedTarget(*wish.if_match), ", the alias \"",
                         Shown(wish.alias), "\" means ", QuotedTarget(change.from))),
                     "if_match");
  }
  if (!wish.to) {
    ASSIGN_OR_RETURN(
        change.to,
        TextOf("SELECT \"from\" FROM alias_history WHERE alias = ? AND \"from\" NOT IN ('', ?) "
               "ORDER BY number DESC",
               {wish.alias, change.from}));
    if (change.to.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the alias \"", Shown(wish.alias), "\" has meant nothing else before"));
    }
  } else if (change.to.empty() && change.from.empty()) {
    return WithField(
        absl::NotFoundError(absl::StrCat("there is no alias \"", Shown(wish.alias), "\"")),
        "alias");
  }
  if (!change.to.empty()) RETURN_IF_ERROR(check(change.to));
  if (change.to != change.from) RETURN_IF_ERROR(OfFile(Write(change)));
  return change;
}

absl::StatusOr<AliasChange> AliasStore::Change(
    const AliasWish& wish, const std::function<absl::Status(const std::string& to)>& check) {
  RETURN_IF_ERROR(OfFile(db_->Run("BEGIN IMMEDIATE")));
  absl::StatusOr<AliasChange> change = ChangeInside(wish, check);
  if (change.ok()) {
    const absl::Status written = OfFile(db_->Run("COMMIT"));
    if (!written.ok()) change = written;
  }
  if (!change.ok()) db_->Run("ROLLBACK").IgnoreError();
  return change;
}

}  // namespace penstock
