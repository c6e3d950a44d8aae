#include "access/remote_key_sets.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "access/token_keys.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr absl::Duration kRefreshPeriod = absl::Minutes(5);
constexpr absl::Duration kRetry = absl::Seconds(15);      // after a failure
constexpr absl::Duration kLeastPause = absl::Seconds(5);  // however many unknown keys are named
constexpr absl::Duration kStale = absl::Hours(24);

}  // namespace

RemoteKeySets::RemoteKeySets(const std::vector<std::string>& urls, FetchFn fetch,
                             const Clock* clock, AccessLog log)
    : fetch_(std::move(fetch)), clock_(*clock), log_(std::move(log)) {
  for (const std::string& url : urls) remotes_.try_emplace(url);
}

std::optional<std::string> RemoteKeySets::TextOf(const std::string& url) const {
  std::lock_guard lock(mutex_);
  const auto it = remotes_.find(url);
  if (it == remotes_.end() || it->second.text.empty()) return std::nullopt;
  return it->second.text;
}

uint64_t RemoteKeySets::version() const {
  std::lock_guard lock(mutex_);
  return version_;
}

bool RemoteKeySets::Want(const std::string& url) {
  std::lock_guard lock(mutex_);
  const auto it = remotes_.find(url);
  if (it == remotes_.end()) return false;
  Remote& remote = it->second;
  remote.due = std::min(remote.due, remote.tried + kLeastPause);
  return remote.due <= clock_.Now();
}

void RemoteKeySets::Check() {
  std::vector<std::string> due;
  {
    std::lock_guard lock(mutex_);
    const absl::Time now = clock_.Now();
    for (auto& [url, remote] : remotes_) {
      if (remote.due <= now) due.push_back(url);
    }
  }
  for (const std::string& url : due) Fetch(url);
  std::lock_guard lock(mutex_);
  for (auto& [url, remote] : remotes_) {
    if (remote.text.empty() || clock_.Now() - remote.fetched <= kStale) continue;
    remote.text.clear();
    ++version_;
    log_(true, absl::StrCat("auth.jwt: ", url, " was not reached for a day: its keys are dropped"));
  }
}

void RemoteKeySets::Fetch(const std::string& url) {
  absl::StatusOr<std::string> text = fetch_(url);
  absl::Status status = text.status();
  if (status.ok()) status = TokenKeys::Parse(*text).status();
  std::lock_guard lock(mutex_);
  Remote& remote = remotes_[url];
  const absl::Time now = clock_.Now();
  remote.tried = now;
  remote.due = now + (status.ok() ? kRefreshPeriod : kRetry);
  if (status.ok()) {
    remote.fetched = now;
    if (remote.text != *text) ++version_;
    remote.text = *std::move(text);
  }
  std::string complaint(status.ok() ? "" : Message(status));
  if (complaint == remote.complaint) return;
  remote.complaint = std::move(complaint);
  log_(!status.ok(), status.ok()
                         ? absl::StrCat("auth.jwt: ", url, ": its keys are fetched again")
                         : absl::StrCat("auth.jwt: ", url, ": ", remote.complaint,
                                        "; the keys that were fetched last stay for a day"));
}

}  // namespace penstock
