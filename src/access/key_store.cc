#include "access/key_store.h"

#include <sqlite3.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr char kMakeTable[] =
    "CREATE TABLE IF NOT EXISTS api_keys(id TEXT PRIMARY KEY NOT NULL, digest BLOB NOT NULL, "
    "tenant TEXT NOT NULL, roles TEXT NOT NULL, cidrs TEXT NOT NULL, created INTEGER NOT NULL, "
    "expires INTEGER, revoked INTEGER, note TEXT NOT NULL) STRICT";

std::vector<std::string> Split(const std::string& text) {
  return absl::StrSplit(text, ',', absl::SkipEmpty());
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeyStore>> KeyStore::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<StateDb> db, StateDb::Open(path, kMakeTable));
  std::unique_ptr<KeyStore> store(new KeyStore(std::move(db)));
  if (!store->db_->read_only()) RETURN_IF_ERROR(store->AddModels());
  store->has_models_ = store->HasModels();
  RETURN_IF_ERROR(store->db_->CheckTable("api_keys"));
  return store;
}

bool KeyStore::HasModels() {
  Statement column(*db_, "SELECT 1 FROM pragma_table_info('api_keys') WHERE name = 'models'");
  return column.Step();
}

/// Files of before there was the column. Of two processes that open one at a time one is too late.
absl::Status KeyStore::AddModels() {
  if (HasModels()) return absl::OkStatus();
  const absl::Status added =
      db_->Run("ALTER TABLE api_keys ADD COLUMN models TEXT NOT NULL DEFAULT ''");
  return HasModels() ? absl::OkStatus() : added;
}

absl::StatusOr<std::vector<KeyRecord>> KeyStore::List() {
  const std::string sql =
      absl::StrCat("SELECT id, digest, tenant, roles, cidrs, created, expires, revoked, note, ",
                   has_models_ ? "models" : "''", " FROM api_keys ORDER BY created, id");
  Statement rows(*db_, sql.c_str());
  std::vector<KeyRecord> out;
  while (rows.Step()) {
    KeyRecord record;
    record.id = rows.Text(0);
    record.digest = rows.Text(1);
    record.tenant = rows.Text(2);
    record.roles = Split(rows.Text(3));
    record.cidrs = Split(rows.Text(4));
    record.created = rows.Time(5);
    record.expires = rows.Time(6);
    record.revoked = rows.Time(7);
    record.note = rows.Text(8);
    record.models = Split(rows.Text(9));
    out.push_back(std::move(record));
  }
  if (!rows.done()) return db_->Error(rows.code());
  return out;
}

absl::Status KeyStore::Insert(const KeyRecord& record) {
  Statement insert(*db_,
                   "INSERT INTO api_keys(id, digest, tenant, roles, cidrs, created, expires, "
                   "revoked, note, models) "
                   "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  insert.Bind(record.id);
  insert.Bind(record.digest, /*blob=*/true);
  insert.Bind(record.tenant);
  insert.Bind(absl::StrJoin(record.roles, ","));
  insert.Bind(absl::StrJoin(record.cidrs, ","));
  insert.Bind(record.created);
  insert.Bind(record.expires);
  insert.Bind(record.revoked);
  insert.Bind(record.note);
  insert.Bind(absl::StrJoin(record.models, ","));
  insert.Step();
  return insert.done() ? absl::OkStatus() : db_->Error(insert.code());
}

absl::Status KeyStore::SetRevoked(const std::string& id, absl::Time when) {
  Statement update(*db_, "UPDATE api_keys SET revoked = ? WHERE id = ?");
  update.Bind(when);
  update.Bind(id);
  update.Step();
  if (!update.done()) return db_->Error(update.code());
  if (sqlite3_changes(db_->get()) == 0)
    return absl::NotFoundError(absl::StrCat("there is no key ", absl::CHexEscape(id)));
  return absl::OkStatus();
}

absl::Status KeyStore::Replace(const std::string& id, absl::Time when, const KeyRecord& next) {
  RETURN_IF_ERROR(db_->Run("BEGIN IMMEDIATE"));
  const auto both = [&]() -> absl::Status {
    RETURN_IF_ERROR(Insert(next));
    Statement update(*db_,
                     "UPDATE api_keys SET expires = min(coalesce(expires, ?1), ?1) WHERE id = ?2");
    update.Bind(when);
    update.Bind(id);
    update.Step();
    if (!update.done()) return db_->Error(update.code());
    return db_->Run("COMMIT");
  };
  const absl::Status status = both();
  if (!status.ok()) db_->Run("ROLLBACK").IgnoreError();
  return status;
}

}  // namespace penstock
