#include "access/key_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int kBusyMs = 2000;
constexpr char kMakeTable[] =
    "CREATE TABLE IF NOT EXISTS api_keys(id TEXT PRIMARY KEY NOT NULL, digest BLOB NOT NULL, "
    "tenant TEXT NOT NULL, roles TEXT NOT NULL, cidrs TEXT NOT NULL, created INTEGER NOT NULL, "
    "expires INTEGER, revoked INTEGER, note TEXT NOT NULL) STRICT";

// One prepared statement, stepped and read.
class Statement {
 public:
  Statement(sqlite3* db, const char* sql) {
    code_ = sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;

  void Bind(std::string_view text, bool blob = false) {
    ++column_;
    const int size = static_cast<int>(text.size());
    Keep(blob ? sqlite3_bind_blob(statement_, column_, text.data(), size, SQLITE_TRANSIENT)
              : sqlite3_bind_text(statement_, column_, text.data(), size, SQLITE_TRANSIENT));
  }
  void Bind(absl::Time time) {
    ++column_;
    Keep(time == absl::InfiniteFuture()
             ? sqlite3_bind_null(statement_, column_)
             : sqlite3_bind_int64(statement_, column_, absl::ToUnixSeconds(time)));
  }
  bool Step() {
    if (code_ != SQLITE_OK && code_ != SQLITE_ROW) return false;
    code_ = sqlite3_step(statement_);
    return code_ == SQLITE_ROW;
  }
  int code() const { return code_; }
  bool done() const { return code_ == SQLITE_DONE; }

  std::string Text(int column) const {
    const void* bytes = sqlite3_column_blob(statement_, column);
    return bytes == nullptr ? std::string()
                            : std::string(static_cast<const char*>(bytes),
                                          sqlite3_column_bytes(statement_, column));
  }
  int64_t Number(int column) const { return sqlite3_column_int64(statement_, column); }
  absl::Time Time(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL
               ? absl::InfiniteFuture()
               : absl::FromUnixSeconds(Number(column));
  }

 private:
  void Keep(int code) {
    if (code_ == SQLITE_OK) code_ = code;
  }
  sqlite3_stmt* statement_ = nullptr;
  int code_ = SQLITE_OK;
  int column_ = 0;
};

std::vector<std::string> Split(const std::string& text) {
  return absl::StrSplit(text, ',', absl::SkipEmpty());
}

absl::Status StateError(const std::string& path, int code, const char* message) {
  const std::string line = absl::StrCat(path, ": ", message);
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(line);
    case SQLITE_READONLY:
      return absl::FailedPreconditionError(line);
    default:
      return absl::UnavailableError(line);
  }
}

}  // namespace

// A connection that can read, or an error.
int KeyStore::Connect(const std::string& name, int flags, sqlite3** db) {
  int code = sqlite3_open_v2(name.c_str(), db, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code == SQLITE_OK) {
    sqlite3_busy_timeout(*db, kBusyMs);
    code = sqlite3_exec(*db, "SELECT count(*) FROM sqlite_master", nullptr, nullptr, nullptr);
  }
  return code & 0xff;
}

absl::StatusOr<std::unique_ptr<KeyStore>> KeyStore::Open(const std::string& path) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  // Only where it is missing: to close a file that SQLite has open would drop SQLite's locks.
  const int made = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (made >= 0) close(made);
  sqlite3* db = nullptr;
  int code = Connect(path, SQLITE_OPEN_READWRITE, &db);
  // A database in WAL mode can be read where nothing can be written only if it is said that nobody
  // writes, which is right as long as no log of writes lies beside it.
  struct stat log {};
  const bool has_log = stat((path + "-wal").c_str(), &log) == 0 && log.st_size > 0;
  if ((code == SQLITE_CANTOPEN || code == SQLITE_READONLY) && !has_log) {
    sqlite3_close(std::exchange(db, nullptr));
    code = Connect(absl::StrCat("file:", path, "?immutable=1"),
                   SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, &db);
  }
  std::unique_ptr<KeyStore> store(new KeyStore(path, db));
  if (code != SQLITE_OK) return store->Error(code);
  if (sqlite3_db_readonly(db, "main") == 0) {
    RETURN_IF_ERROR(store->Run("PRAGMA journal_mode=WAL"));
    RETURN_IF_ERROR(store->Run("PRAGMA synchronous=FULL"));
    RETURN_IF_ERROR(store->Run(kMakeTable));
    RETURN_IF_ERROR(store->AddModels());
  }
  store->has_models_ = store->HasModels();
  Statement check(db, "PRAGMA integrity_check(api_keys)");
  if (!check.Step()) return store->Error(check.code());
  if (check.Text(0) != "ok")
    return absl::DataLossError(absl::StrCat(path, ": damaged: ", check.Text(0)));
  return store;
}

KeyStore::~KeyStore() { sqlite3_close(db_); }

absl::Status KeyStore::Error(int code) const {
  return StateError(path_, code, sqlite3_errmsg(db_));
}

absl::Status KeyStore::Run(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code);
}

bool KeyStore::HasModels() {
  Statement column(db_, "SELECT 1 FROM pragma_table_info('api_keys') WHERE name = 'models'");
  return column.Step();
}

/// Files of before there was the column. Of two processes that open one at a time one is too late.
absl::Status KeyStore::AddModels() {
  if (HasModels()) return absl::OkStatus();
  const absl::Status added = Run("ALTER TABLE api_keys ADD COLUMN models TEXT NOT NULL DEFAULT ''");
  return HasModels() ? absl::OkStatus() : added;
}

absl::StatusOr<std::vector<KeyRecord>> KeyStore::List() {
  const std::string sql =
      absl::StrCat("SELECT id, digest, tenant, roles, cidrs, created, expires, revoked, note, ",
                   has_models_ ? "models" : "''", " FROM api_keys ORDER BY created, id");
  Statement rows(db_, sql.c_str());
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
  if (!rows.done()) return Error(rows.code());
  return out;
}

absl::Status KeyStore::Insert(const KeyRecord& record) {
  Statement insert(db_,
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
  return insert.done() ? absl::OkStatus() : Error(insert.code());
}

absl::Status KeyStore::SetRevoked(const std::string& id, absl::Time when) {
  Statement update(db_, "UPDATE api_keys SET revoked = ? WHERE id = ?");
  update.Bind(when);
  update.Bind(id);
  update.Step();
  if (!update.done()) return Error(update.code());
  if (sqlite3_changes(db_) == 0)
    return absl::NotFoundError(absl::StrCat("there is no key ", absl::CHexEscape(id)));
  return absl::OkStatus();
}

absl::Status KeyStore::Replace(const std::string& id, absl::Time when, const KeyRecord& next) {
  RETURN_IF_ERROR(Run("BEGIN IMMEDIATE"));
  const auto both = [&]() -> absl::Status {
    RETURN_IF_ERROR(Insert(next));
    Statement update(db_,
                     "UPDATE api_keys SET expires = min(coalesce(expires, ?1), ?1) WHERE id = ?2");
    update.Bind(when);
    update.Bind(id);
    update.Step();
    if (!update.done()) return Error(update.code());
    return Run("COMMIT");
  };
  const absl::Status status = both();
  if (!status.ok()) Run("ROLLBACK").IgnoreError();
  return status;
}

absl::StatusOr<int64_t> KeyStore::Version() {
  Statement version(db_, "PRAGMA data_version");
  if (!version.Step()) return Error(version.code());
  return version.Number(0);
}

}  // namespace penstock
