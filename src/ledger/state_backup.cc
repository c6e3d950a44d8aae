#include "ledger/state_backup.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "ledger/usage_store.h"

namespace penstock {
namespace {

using Database = std::unique_ptr<sqlite3, int (*)(sqlite3*)>;

absl::StatusOr<Database> OpenDatabase(const std::string& path, int flags) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  Database db(raw, sqlite3_close);
  if (code != SQLITE_OK)
    return absl::UnavailableError(absl::StrCat(path, ": ", sqlite3_errmsg(raw)));
  sqlite3_busy_timeout(raw, 10000);
  return db;
}

absl::Status CheckDatabase(sqlite3* db, const std::string& path) {
  sqlite3_stmt* check = nullptr;
  int code = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &check, nullptr);
  std::string said;
  if (code == SQLITE_OK && (code = sqlite3_step(check)) == SQLITE_ROW)
    said = reinterpret_cast<const char*>(sqlite3_column_text(check, 0));
  sqlite3_finalize(check);
  if (said == "ok") return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(path, ": damaged: ", said.empty() ? sqlite3_errmsg(db) : said.c_str()));
}

absl::Status Copy(const std::string& from, const std::string& to) {
  ASSIGN_OR_RETURN(const Database db, OpenDatabase(from, SQLITE_OPEN_READWRITE));
  RETURN_IF_ERROR(CheckDatabase(db.get(), from));
  sqlite3_stmt* copy = nullptr;
  int code = sqlite3_prepare_v2(db.get(), "VACUUM INTO ?", -1, &copy, nullptr);
  if (code == SQLITE_OK) {
    sqlite3_bind_text(copy, 1, to.data(), static_cast<int>(to.size()), SQLITE_TRANSIENT);
    code = sqlite3_step(copy);
  }
  const absl::Status status =
      code == SQLITE_DONE
          ? absl::OkStatus()
          : absl::UnavailableError(absl::StrCat(to, ": ", sqlite3_errmsg(db.get())));
  sqlite3_finalize(copy);
  return status;
}

/// Figures that the state file has not got yet.
absl::Status AddBooks(const std::string& state_dir, const std::string& to) {
  ASSIGN_OR_RETURN(const std::unique_ptr<UsageStore> store, UsageStore::Open(to));
  for (const UsageBook::File& file : UsageBook::ReadAll(state_dir))
    RETURN_IF_ERROR(store->Write(file.number, file.server, file.rows));
  return absl::OkStatus();
}

absl::Status CheckCopy(const std::string& to) {
  ASSIGN_OR_RETURN(const Database db, OpenDatabase(to, SQLITE_OPEN_READWRITE));
  // One file, without a log of writes beside it.
  sqlite3_exec(db.get(), "PRAGMA journal_mode=DELETE", nullptr, nullptr, nullptr);
  RETURN_IF_ERROR(CheckDatabase(db.get(), to));
  const int fd = open(to.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BackUpState(const std::string& state_dir, const std::string& to) {
  const std::string from = (std::filesystem::path(state_dir) / "state.db").string();
  std::error_code ignored;
  if (std::filesystem::exists(to, ignored))
    return absl::AlreadyExistsError(absl::StrCat(to, ": is there already"));
  const mode_t mask = umask(077);  // it holds what the original holds
  absl::Status status = Copy(from, to);
  if (status.ok()) status = AddBooks(state_dir, to);
  if (status.ok()) status = CheckCopy(to);
  umask(mask);
  if (!status.ok()) std::filesystem::remove(to, ignored);
  return status;
}

}  // namespace penstock
