#include "ledger/usage_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

constexpr int kUsageBusyMs = 1000;
constexpr char kUsageTables[] =
    "CREATE TABLE IF NOT EXISTS usage(server TEXT NOT NULL, tenant TEXT NOT NULL, "
    "requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, "
    "completion_tokens INTEGER NOT NULL, window_end INTEGER NOT NULL, "
    "window_base INTEGER NOT NULL, written INTEGER NOT NULL, PRIMARY KEY(server, tenant)) STRICT;"
    "CREATE TABLE IF NOT EXISTS usage_files(number INTEGER PRIMARY KEY, server TEXT NOT NULL) "
    "STRICT;";

/// Runs one statement; `on_row` is called for each row.
int Query(sqlite3* db, const char* sql, const std::function<void(sqlite3_stmt*)>& bind,
          const std::function<void(sqlite3_stmt*)>& on_row) {
  sqlite3_stmt* statement = nullptr;
  int code = sqlite3_prepare_v2(db, sql, -1, &statement, nullptr);
  if (code == SQLITE_OK) {
    if (bind) bind(statement);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
      if (on_row) on_row(statement);
    }
  }
  sqlite3_finalize(statement);
  return code;
}

void BindText(sqlite3_stmt* statement, int column, const std::string& text) {
  sqlite3_bind_text(statement, column, text.data(), static_cast<int>(text.size()),
                    SQLITE_TRANSIENT);
}

std::string TextIn(sqlite3_stmt* row, int column) {
  const void* bytes = sqlite3_column_blob(row, column);
  return bytes == nullptr
             ? std::string()
             : std::string(static_cast<const char*>(bytes), sqlite3_column_bytes(row, column));
}

UsageRow RowIn(sqlite3_stmt* row, int first) {
  const auto number = [&](int i) { return sqlite3_column_int64(row, first + i); };
  return {TextIn(row, first), {number(1), number(2), number(3), number(4)}, number(5), number(6)};
}

}  // namespace

absl::Status UsageStore::Error() const {
  const std::string line = absl::StrCat(path_, ": ", sqlite3_errmsg(db_));
  const int code = sqlite3_errcode(db_) & 0xff;
  return code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? absl::DataLossError(line)
                                                         : absl::UnavailableError(line);
}

absl::Status UsageStore::Run(const char* sql) {
  return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK ? absl::OkStatus()
                                                                        : Error();
}

absl::StatusOr<std::unique_ptr<UsageStore>> UsageStore::Open(const std::string& path) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  // For its owner alone, as the keys in it.
  const int made = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (made >= 0) close(made);
  sqlite3* db = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<UsageStore> store(new UsageStore(path, db));
  if (code != SQLITE_OK) return store->Error();
  sqlite3_busy_timeout(db, kUsageBusyMs);
  RETURN_IF_ERROR(store->Run("PRAGMA journal_mode=WAL"));
  RETURN_IF_ERROR(store->Run("PRAGMA synchronous=NORMAL"));
  RETURN_IF_ERROR(store->Run(kUsageTables));
  return store;
}

UsageStore::~UsageStore() { sqlite3_close(db_); }

absl::StatusOr<std::string> UsageStore::ServerOf(int number) {
  std::string out;
  const int code = Query(
      db_, "SELECT server FROM usage_files WHERE number = ?",
      [&](sqlite3_stmt* s) { sqlite3_bind_int(s, 1, number); },
      [&](sqlite3_stmt* row) { out = TextIn(row, 0); });
  if (code != SQLITE_DONE) return Error();
  return out;
}

absl::StatusOr<std::vector<UsageRow>> UsageStore::RowsOf(const std::string& server) {
  std::vector<UsageRow> out;
  const int code = Query(
      db_,
      "SELECT tenant, requests, prompt_tokens, cached_tokens, completion_tokens, window_end, "
      "window_base FROM usage WHERE server = ?",
      [&](sqlite3_stmt* s) { BindText(s, 1, server); },
      [&](sqlite3_stmt* row) { out.push_back(RowIn(row, 0)); });
  if (code != SQLITE_DONE) return Error();
  return out;
}

absl::Status UsageStore::Write(int number, const std::string& server,
                               const std::vector<UsageRow>& rows) {
  RETURN_IF_ERROR(Run("BEGIN IMMEDIATE"));
  const auto all = [&]() -> absl::Status {
    for (const UsageRow& row : rows) {
      const int code = Query(
          db_, "INSERT OR REPLACE INTO usage VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
          [&](sqlite3_stmt* s) {
            BindText(s, 1, server);
            BindText(s, 2, row.tenant);
            int column = 3;
            for (const int64_t n :
                 {row.totals.requests, row.totals.prompt_tokens, row.totals.cached_tokens,
                  row.totals.completion_tokens, row.window_end, row.window_base,
                  absl::ToUnixSeconds(absl::Now())})
              sqlite3_bind_int64(s, column++, n);
          },
          nullptr);
      if (code != SQLITE_DONE) return Error();
    }
    if (number >= 0) {
      const int code = Query(
          db_, "INSERT OR REPLACE INTO usage_files VALUES(?, ?)",
          [&](sqlite3_stmt* s) {
            sqlite3_bind_int(s, 1, number);
            BindText(s, 2, server);
          },
          nullptr);
      if (code != SQLITE_DONE) return Error();
    }
    return Run("COMMIT");
  };
  const absl::Status status = all();
  if (!status.ok()) Run("ROLLBACK").IgnoreError();
  return status;
}

absl::Status UsageStore::ReadState(
    const std::string& path,
    const std::function<void(const std::string& server, const UsageRow& row)>& add) {
  sqlite3* db = nullptr;
  int code =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
  const UsageStore store(path, db);
  if (code != SQLITE_OK) return store.Error();
  sqlite3_busy_timeout(db, kUsageBusyMs);
  code = Query(db,
               "SELECT server, tenant, requests, prompt_tokens, cached_tokens, completion_tokens, "
               "window_end, window_base FROM usage",
               nullptr, [&](sqlite3_stmt* row) { add(TextIn(row, 0), RowIn(row, 1)); });
  return code == SQLITE_DONE ? absl::OkStatus() : store.Error();
}

absl::StatusOr<std::string> UsageStore::Report(const std::string& state_dir,
                                               const std::string& tenant, const UsageBook* book) {
  // Figures of one server and tenant only rise: of several records the highest is the last.
  std::map<std::pair<std::string, std::string>, UsageRow> rows;
  const auto add = [&](const std::string& server, const UsageRow& row) {
    UsageRow& known = rows.try_emplace({server, row.tenant}, row).first->second;
    if (row.totals.requests >= known.totals.requests &&
        row.totals.prompt_tokens >= known.totals.prompt_tokens &&
        row.totals.completion_tokens >= known.totals.completion_tokens)
      known = row;
  };
  absl::Status status;
  if (book != nullptr) {
    for (const UsageRow& row : book->Rows()) add(book->server_id(), row);
  }
  if (!state_dir.empty()) {
    status = ReadState((std::filesystem::path(state_dir) / "state.db").string(), add);
    for (const UsageBook::File& file : UsageBook::ReadAll(state_dir)) {
      for (const UsageRow& row : file.rows) add(file.server, row);
    }
  }
  if (!status.ok() && rows.empty()) return status;

  std::map<std::string, nlohmann::ordered_json> tenants;
  for (const auto& [key, row] : rows) {
    if (!tenant.empty() && row.tenant != tenant) continue;
    nlohmann::ordered_json& out = tenants[row.tenant];
    if (out.is_null()) out = {{"tenant", row.tenant}};
    const auto count = [&](const char* name, int64_t amount) {
      out[name] = out.value(name, int64_t{0}) + amount;
    };
    count("requests", row.totals.requests);
    count("prompt_tokens", row.totals.prompt_tokens);
    count("cached_tokens", row.totals.cached_tokens);
    count("completion_tokens", row.totals.completion_tokens);
    if (row.window_end <= absl::ToUnixMillis(absl::Now())) continue;
    const int64_t tokens = row.totals.prompt_tokens + row.totals.completion_tokens;
    count("budget_used", std::max<int64_t>(0, tokens - row.window_base));
    out["budget_end"] = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixMillis(row.window_end),
                                         absl::UTCTimeZone());
  }
  nlohmann::ordered_json out;
  out["usage"] = nlohmann::ordered_json::array();
  for (auto& [name, row] : tenants) out["usage"].push_back(std::move(row));
  return out.dump();
}

}  // namespace penstock
