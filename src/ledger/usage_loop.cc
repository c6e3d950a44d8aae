#include "ledger/usage_loop.h"

#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/thread_name.h"

namespace penstock {
namespace {
constexpr auto kUsagePeriod = std::chrono::seconds(1);
}

std::unique_ptr<UsageLoop> UsageLoop::Start(const std::string& state_dir, CounterHandle errors,
                                            LogLine log) {
  const std::string path =
      state_dir.empty() ? "" : (std::filesystem::path(state_dir) / "state.db").string();
  std::unique_ptr<UsageLoop> loop(new UsageLoop(path, errors, std::move(log)));
  if (!state_dir.empty()) {
    absl::StatusOr<std::shared_ptr<UsageBook>> book = UsageBook::Open(state_dir);
    if (book.ok()) {
      loop->book_ = *std::move(book);
    } else {
      errors.Add();
      loop->log_(true, absl::StrCat("what tenants use is kept in memory alone: ",
                                    ToAbsl(Message(book.status()))));
    }
  }
  if (loop->book_ == nullptr) loop->book_ = UsageBook::InMemory();
  if (path.empty()) return loop;
  loop->Write();
  loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  return loop;
}

UsageLoop::~UsageLoop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  thread_.join();
  Write();
}

void UsageLoop::Run() {
  NameThread("usage");
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kUsagePeriod, [this] { return stopped_; })) {
    lock.unlock();
    Write();
    lock.lock();
  }
}

absl::Status UsageLoop::Restore() {
  if (book_->was_made()) {  // the file was lost, or there never was one
    ASSIGN_OR_RETURN(const std::string server, store_->ServerOf(book_->number()));
    if (!server.empty()) book_->set_server_id(server);
  }
  ASSIGN_OR_RETURN(const std::vector<UsageRow> rows, store_->RowsOf(book_->server_id()));
  for (const UsageRow& row : rows) book_->Merge(row);
  return absl::OkStatus();
}

absl::Status UsageLoop::WriteChanged() {
  if (store_ == nullptr) {
    ASSIGN_OR_RETURN(store_, UsageStore::Open(path_));
  }
  if (!restored_) {
    RETURN_IF_ERROR(Restore());
    restored_ = true;
  }
  std::vector<UsageRow> changed;
  for (UsageRow& row : book_->Rows()) {
    const auto it = written_.find(row.tenant);
    if (it == written_.end() || it->second != row) changed.push_back(std::move(row));
  }
  if (changed.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(store_->Write(book_->number(), book_->server_id(), changed));
  for (UsageRow& row : changed) written_[row.tenant] = std::move(row);
  return absl::OkStatus();
}

void UsageLoop::Write() {
  const absl::Status status = WriteChanged();
  if (!status.ok()) {
    store_.reset();  // to be opened anew: the file may have been replaced
    errors_.Add();
  }
  Complain(status);
}

void UsageLoop::Complain(const absl::Status& status) {
  std::string complaint(status.ok() ? "" : Message(status));
  if (complaint == complaint_) return;
  complaint_ = std::move(complaint);
  log_(!status.ok(),
       status.ok() ? "what tenants use is written to the state file again"
                   : absl::StrCat("what tenants use cannot be written to the state file; it is "
                                  "counted on: ",
                                  complaint_));
}

}  // namespace penstock
