#include "executor/tier_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

constexpr mode_t kOwnerOnly = 0600;

/// Of a folder; -1 and errno.
int OpenUnnamed(const std::string& folder) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kOwnerOnly);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
  std::string name = folder + "/penstock-kv-XXXXXX";  // a file system that needs a name at first
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TierFile>> TierFile::Make(const std::string& folder, int64_t bytes) {
  const std::string where = absl::StrCat("engine.kv_offload_path: ", folder, ": ");
  struct stat facts {};
  if (::stat(folder.c_str(), &facts) != 0)
    return absl::InvalidArgumentError(absl::StrCat(where, std::strerror(errno)));
  if (!S_ISDIR(facts.st_mode))
    return absl::InvalidArgumentError(absl::StrCat(where, "expected a folder"));
  const int opened = OpenUnnamed(folder);
  if (opened < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, "no file can be made there: ", std::strerror(errno)));
  }
  std::unique_ptr<TierFile> file(new TierFile(folder, opened));
  struct statvfs room {};
  int64_t free = 0;
  if (::fstatvfs(opened, &room) == 0)
    free = static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_frsize);
  // Taken now, a full disk is no surprise later.
  const int error = free < bytes ? ENOSPC : ::posix_fallocate(opened, 0, bytes);
  if (error == 0) return file;
  return absl::ResourceExhaustedError(absl::StrCat(where, "no room for the ", bytes,
                                                   " bytes of engine.kv_offload, ", free,
                                                   " are free: ", std::strerror(error)));
}

TierFile::~TierFile() { ::close(file_); }

absl::Status TierFile::Read(int64_t offset, void* to, int64_t bytes) {
  auto* next = static_cast<std::byte*>(to);
  while (bytes > 0) {
    const ssize_t got = ::pread(file_, next, bytes, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return absl::InternalError(absl::StrCat("engine.kv_offload_path: ", folder_, ": reading: ",
                                              got == 0 ? "the file ended" : std::strerror(errno)));
    }
    next += got;
    offset += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

absl::Status TierFile::Write(int64_t offset, const void* from, int64_t bytes) {
  const auto* next = static_cast<const std::byte*>(from);
  while (bytes > 0) {
    const ssize_t put = ::pwrite(file_, next, bytes, offset);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) {
      return absl::InternalError(absl::StrCat("engine.kv_offload_path: ", folder_, ": writing: ",
                                              put == 0 ? "nothing was" : std::strerror(errno)));
    }
    next += put;
    offset += put;
    bytes -= put;
  }
  return absl::OkStatus();
}

void TierFile::WillRead(int64_t offset, int64_t bytes) {
  ::posix_fadvise(file_, offset, bytes, POSIX_FADV_WILLNEED);
}

}  // namespace penstock
