#include "format/state_db.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {

namespace {
constexpr int kBusyMs = 2000;
}

// A connection that can read, or an error.
int StateDb::Connect(const std::string& name, int flags, sqlite3** db) {
  int code = sqlite3_open_v2(name.c_str(), db, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code == SQLITE_OK) {
    sqlite3_busy_timeout(*db, kBusyMs);
    code = sqlite3_exec(*db, "SELECT count(*) FROM sqlite_master", nullptr, nullptr, nullptr);
  }
  return code & 0xff;
}

absl::StatusOr<std::unique_ptr<StateDb>> StateDb::Open(const std::string& path,
                                                       const char* make_tables) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  // Only where it is missing: to close a file that SQLite has open would drop SQLite's locks.
  const int made = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (made >= 0) close(made);
  sqlite3* raw = nullptr;
  int code = Connect(path, SQLITE_OPEN_READWRITE, &raw);
  // A database in WAL mode can be read where nothing can be written only if it is said that nobody
  // writes, which is right as long as no log of writes lies beside it.
  struct stat log {};
  const bool has_log = stat((path + "-wal").c_str(), &log) == 0 && log.st_size > 0;
  if ((code == SQLITE_CANTOPEN || code == SQLITE_READONLY) && !has_log) {
    sqlite3_close(std::exchange(raw, nullptr));
    code = Connect(absl::StrCat("file:", path, "?immutable=1"),
                   SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, &raw);
  }
  std::unique_ptr<StateDb> db(new StateDb(path, raw));
  if (code != SQLITE_OK) return db->Error(code);
  if (db->read_only()) return db;
  RETURN_IF_ERROR(db->Run("PRAGMA journal_mode=WAL"));
  RETURN_IF_ERROR(db->Run("PRAGMA synchronous=FULL"));
  RETURN_IF_ERROR(db->Run(make_tables));
  return db;
}

StateDb::~StateDb() { sqlite3_close(db_); }

bool StateDb::read_only() const { return sqlite3_db_readonly(db_, "main") != 0; }

absl::Status StateDb::Error(int code) const {
  const std::string line = absl::StrCat(path_, ": ", sqlite3_errmsg(db_));
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

absl::Status StateDb::Run(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code);
}

absl::Status StateDb::CheckTable(std::string_view table) {
  const std::string sql = absl::StrCat("PRAGMA integrity_check(", ToAbsl(table), ")");
  Statement check(*this, sql.c_str());
  if (!check.Step()) return Error(check.code());
  if (check.Text(0) == "ok") return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path_, ": damaged: ", check.Text(0)));
}

absl::StatusOr<int64_t> StateDb::Version() {
  Statement version(*this, "PRAGMA data_version");
  if (!version.Step()) return Error(version.code());
  return version.Number(0);
}

Statement::Statement(const StateDb& db, const char* sql)
    : code_(sqlite3_prepare_v2(db.get(), sql, -1, &statement_, nullptr)) {}

Statement::~Statement() { sqlite3_finalize(statement_); }

void Statement::Bind(std::string_view text, bool blob) {
  ++column_;
  const int size = static_cast<int>(text.size());
  Keep(blob ? sqlite3_bind_blob(statement_, column_, text.data(), size, SQLITE_TRANSIENT)
            : sqlite3_bind_text(statement_, column_, text.data(), size, SQLITE_TRANSIENT));
}

void Statement::Bind(int64_t number) {
  ++column_;
  Keep(sqlite3_bind_int64(statement_, column_, number));
}

void Statement::Bind(absl::Time time) {
  if (time != absl::InfiniteFuture()) return Bind(absl::ToUnixSeconds(time));
  ++column_;
  Keep(sqlite3_bind_null(statement_, column_));
}

bool Statement::Step() {
  if (code_ != SQLITE_OK && code_ != SQLITE_ROW) return false;
  code_ = sqlite3_step(statement_);
  return code_ == SQLITE_ROW;
}

bool Statement::done() const { return code_ == SQLITE_DONE; }

std::string Statement::Text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes),
                                        sqlite3_column_bytes(statement_, column));
}

int64_t Statement::Number(int column) const { return sqlite3_column_int64(statement_, column); }

absl::Time Statement::Time(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL
             ? absl::InfiniteFuture()
             : absl::FromUnixSeconds(Number(column));
}

void Statement::Keep(int code) {
  if (code_ == SQLITE_OK) code_ = code;
}

}  // namespace penstock
