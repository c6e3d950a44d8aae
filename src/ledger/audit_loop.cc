#include "ledger/audit_loop.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/thread_name.h"

namespace penstock {
namespace {

constexpr int64_t kCheckpointLines = 1000;
constexpr absl::Duration kCheckpointTime = absl::Seconds(60);
constexpr int64_t kMaxDenied = 200;         // lines a second
constexpr size_t kMaxUnwritten = 16 << 20;  // bytes, while the disk takes none
constexpr auto kAuditPeriod = std::chrono::seconds(1);

/// Text as JSON; what is not ASCII by its bytes, so that any text is.
void AppendQuoted(std::string& out, std::string_view text) {
  out += '"';
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c >= 0x7f) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  out += '"';
}

absl::Status AuditError(std::string_view what) {
  return absl::UnavailableError(
      absl::StrCat("audit log: ", ToAbsl(what), ": ", std::strerror(errno)));
}

}  // namespace

std::unique_ptr<AuditLoop> AuditLoop::Start(Options options) {
  std::unique_ptr<AuditLoop> loop(new AuditLoop(std::move(options)));
  loop->Show(loop->Open());
  loop->next_checkpoint_ = loop->options_.clock->Now() + kCheckpointTime;
  loop->thread_ = std::thread([raw = loop.get()] { raw->Run(); });
  return loop;
}

AuditLoop::~AuditLoop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  retry_.notify_all();
  events_.Close();
  thread_.join();
  if (fd_ >= 0) close(fd_);
}

void AuditLoop::Record(AuditEvent event) {
  if (event.time == absl::Time()) event.time = absl::Now();
  if (++queued_ <= kMaxQueued && events_.TryPush(event)) return;
  --queued_;
  ++lost_;
  options_.metrics.audit_write_errors.Add();
}

absl::Status AuditLoop::Open() {
  std::error_code ignored;
  std::filesystem::create_directories(options_.dir, ignored);
  std::filesystem::permissions(options_.dir, std::filesystem::perms::owner_all, ignored);
  const std::vector<std::string> files = AuditFiles(options_.dir);
  if (files.empty()) {
    const absl::StatusOr<AuditHead> head = AuditHead::Read(options_.dir);
    if (head.ok()) {  // somebody took it all away; numbers go on, so that it shows
      whole_ = false;
      number_ = head->last;
      first_ = head->last + 1;
      options_.log(true, "the audit log is gone; `penstock admin audit verify` says more");
    }
    digest_ = head.ok() ? head->digest : NoDigest();
    return Begin();
  }
  const AuditReport report = VerifyAudit(options_.dir, options_.key.get());
  // The end that a crash cut off is no tampering; OpenLast takes it away.
  const bool sound = std::all_of(
      report.problems.begin(), report.problems.end(),
      [](const AuditProblem& problem) { return problem.what == "the last line is cut off"; });
  if (!sound) {
    whole_ = false;
    options_.log(
        true, absl::StrCat("the audit log was tampered with: ", report.problems.front().file, ":",
                           report.problems.front().line, ": ", report.problems.front().what));
  }
  const absl::StatusOr<AuditHead> head = AuditHead::Read(options_.dir);
  first_ = head.ok() ? std::min(head->first, report.first) : report.first;
  number_ = report.last;
  digest_ = report.digest.empty() ? NoDigest() : report.digest;
  RETURN_IF_ERROR(OpenLast(files.back()));
  if (!whole_) {
    AddLine("tampered", absl::Now(), "");
    return Append();
  }
  return absl::OkStatus();
}

/// Cuts off a line that was half written.
absl::Status AuditLoop::OpenLast(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return AuditError(path);
  struct stat file {};
  bool read = fstat(fd, &file) == 0;
  for (size_ = file.st_size; read && size_ > 0; --size_) {
    char last = 0;
    read = pread(fd, &last, 1, size_ - 1) == 1;
    if (last == '\n') break;
  }
  if (!read || ftruncate(fd, size_) != 0) {
    const absl::Status status = AuditError(path);
    close(fd);
    return status;
  }
  fd_ = fd;
  if (size_ == file.st_size) return absl::OkStatus();
  AddLine("recovered", absl::Now(), absl::StrCat(",\"bytes\":", file.st_size - size_));
  return Append();
}

/// The next file.
absl::Status AuditLoop::Begin() {
  const std::string path = AuditFileName(options_.dir, number_ + 1);
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return AuditError(path);
  if (fd_ >= 0) {
    fsync(fd_);
    close(fd_);
  }
  fd_ = fd;
  size_ = 0;
  if (ftruncate(fd_, 0) != 0) return AuditError(path);
  return absl::OkStatus();
}

void AuditLoop::AddLine(std::string_view what, absl::Time time, std::string_view rest) {
  // Where another file cannot be made the old one grows.
  if (lines_.empty() && size_ >= options_.rotate_bytes) Begin().IgnoreError();
  const size_t begin = lines_.size();
  absl::StrAppend(&lines_, "{\"n\":", ++number_, ",\"prev\":\"", digest_, "\",\"time\":\"",
                  absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()),
                  "\",\"what\":\"", ToAbsl(what), "\"", ToAbsl(rest), "}");
  digest_ = LineDigest(std::string_view(lines_).substr(begin));
  lines_ += '\n';
  ++since_checkpoint_;
  options_.metrics.audit_lines.Add();
}

bool AuditLoop::TooManyDenied(const AuditEvent& event) {
  if (event.what != "denied") return false;
  const int64_t second = absl::ToUnixSeconds(event.time);
  if (second != denied_second_) {
    denied_second_ = second;
    denied_ = 0;
  }
  if (++denied_ <= kMaxDenied) return false;
  ++denied_more_;
  return true;
}

void AuditLoop::Render(const AuditEvent& event) {
  if (TooManyDenied(event)) return;
  std::string rest;
  for (const auto& [name, value] : event.fields) {
    absl::StrAppend(&rest, ",\"", ToAbsl(name), "\":");
    if (const auto* text = std::get_if<std::string>(&value)) {
      AppendQuoted(rest, *text);
    } else {
      absl::StrAppend(&rest, std::get<int64_t>(value));
    }
  }
  AddLine(event.what, event.time, rest);
  if (since_checkpoint_ >= kCheckpointLines) AddCheckpoint();
  const bool full = size_ + static_cast<int64_t>(lines_.size()) >= options_.rotate_bytes;
  if (full && !failing_) Write();
}

void AuditLoop::AddCheckpoint() {
  std::string rest;
  if (options_.key != nullptr) {
    rest = absl::StrCat(",\"key\":\"", options_.key->name(), "\",\"signature\":\"",
                        options_.key->Sign(CheckpointText(number_, digest_)), "\"");
  }
  AddLine("checkpoint", absl::Now(), rest);
  since_checkpoint_ = 0;
  next_checkpoint_ = options_.clock->Now() + kCheckpointTime;
}

/// What could not be kept is at least counted.
void AuditLoop::AddLost(bool last) {
  const absl::Time now = options_.clock->Now();
  if (const int64_t lost = lost_.exchange(0); lost > 0)
    AddLine("lost", absl::Now(), absl::StrCat(",\"lines\":", lost));
  if (denied_more_ == 0 || (!last && now < next_denied_more_)) return;
  AddLine("denied", absl::Now(), absl::StrCat(",\"more\":", std::exchange(denied_more_, 0)));
  next_denied_more_ = now + absl::Seconds(1);
}

absl::Status AuditLoop::Append() {
  size_t done = 0;
  while (done < lines_.size()) {
    const ssize_t n =
        pwrite(fd_, lines_.data() + done, lines_.size() - done, size_ + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const absl::Status status = AuditError("write");
      // All of it is written again: what lies there is half a line, perhaps.
      if (ftruncate(fd_, size_) != 0) return AuditError("truncate");
      return status;
    }
    done += static_cast<size_t>(n);
  }
  size_ += static_cast<int64_t>(done);
  lines_.clear();
  return absl::OkStatus();
}

absl::Status AuditLoop::WriteHead() {
  if (fdatasync(fd_) != 0) return AuditError("sync");
  AuditHead head{first_, number_, digest_, ""};
  if (options_.key != nullptr) head.signature = options_.key->Sign(head.SignedText());
  const std::string path = AuditHeadName(options_.dir), partial = path + ".partial";
  std::ofstream out(partial);
  out << head.Json() << '\n';
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(partial, path, error);
  if (!out || error) return absl::UnavailableError("audit log: the head cannot be written");
  return absl::OkStatus();
}

/// Files whose last line is older than the limit; never the one that is written. A time of day that
/// is set ahead while the server runs ages nothing.
void AuditLoop::DropOld() {
  const absl::Duration ttl = options_.ttl ? options_.ttl() : absl::ZeroDuration();
  const std::vector<std::string> files = AuditFiles(options_.dir);
  if (ttl <= absl::ZeroDuration()) return;
  for (size_t i = 0; i + 1 < files.size(); ++i) {
    struct stat file {};
    if (stat(files[i].c_str(), &file) != 0 ||
        options_.clock->Now() - absl::TimeFromTimespec(file.st_mtim) < ttl)
      return;
    const std::string next = std::filesystem::path(files[i + 1]).filename().string();
    int64_t first = 0;
    if (!absl::SimpleAtoi(next.substr(6, 15), &first)) return;
    first_ = first;
    if (!WriteHead().ok()) return;  // the head first: what is gone must not be missed
    std::error_code ignored;
    std::filesystem::remove(files[i], ignored);
  }
}

void AuditLoop::Write() {
  absl::Status status = Append();
  if (status.ok() && since_checkpoint_ == 0) {
    status = WriteHead();
    DropOld();
  }
  Show(status);
}

void AuditLoop::Show(const absl::Status& status) {
  if (!status.ok()) options_.metrics.audit_write_errors.Add();
  failing_ = !status.ok();
  options_.metrics.audit_chain_ok.Set(status.ok() && whole_ ? 1 : 0);
  Complain(status);
}

void AuditLoop::Run() {
  NameThread("audit");
  bool last = false;
  while (!last) {
    if (!failing_) {
      events_.WaitUntil(std::chrono::steady_clock::now() + kAuditPeriod);
    } else {
      std::unique_lock lock(mutex_);
      retry_.wait_for(lock, kAuditPeriod, [this] { return stopped_; });
    }
    {
      const std::lock_guard lock(mutex_);
      last = stopped_;
    }
    if (fd_ < 0) Show(Open());
    if (fd_ < 0) continue;
    // While nothing can be written events wait in the queue, which is bounded.
    if (lines_.size() < kMaxUnwritten) {
      std::vector<AuditEvent> events = events_.TakeAll();
      for (const AuditEvent& event : events) Render(event);
      queued_ -= static_cast<int64_t>(events.size());
    }
    AddLost(last);
    if (since_checkpoint_ > 0 && (last || options_.clock->Now() >= next_checkpoint_))
      AddCheckpoint();
    if (!lines_.empty() || failing_) Write();
  }
}

void AuditLoop::Complain(const absl::Status& status) {
  std::string complaint(status.ok() ? "" : Message(status));
  if (complaint == complaint_) return;
  complaint_ = std::move(complaint);
  options_.log(!status.ok(), status.ok() ? "the audit log is written again" : complaint_);
}

}  // namespace penstock
