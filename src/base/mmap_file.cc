#include "base/mmap_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/lost_pages.h"

namespace penstock {

absl::StatusOr<MmapFile> MmapFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat info;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  MmapFile file;
  file.path_ = path;
  file.device_ = info.st_dev;
  file.inode_ = info.st_ino;
  file.written_ = WrittenOf(info);
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) {
    ::close(fd);
    return file;
  }
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (data == MAP_FAILED) return absl::ErrnoToStatus(error, absl::StrCat("cannot map ", path));
  file.data_ = static_cast<const std::byte*>(data);
  file.size_ = size;
  WatchMapping(data, size, path, LostPage::kIsZeros);
  return file;
}

MmapFile::Written MmapFile::WrittenOf(const struct stat& info) {
  return {info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

MmapFile::MmapFile(MmapFile&& other) noexcept { *this = std::move(other); }

MmapFile& MmapFile::operator=(MmapFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  std::swap(written_, other.written_);
  return *this;
}

absl::Status MmapFile::Intact() const {
  struct stat now;
  const bool same =
      ::stat(path_.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_;
  if (same && WrittenOf(now) != written_) {
    return absl::DataLossError(absl::StrCat(
        path_, now.st_size != written_.bytes ? " has another size" : " was written at another time",
        " than when it was opened: it changed while it was read; put a new file in its place by "
        "renaming it"));
  }
  if (data_ != nullptr && HasLostPages(data_)) {
    return absl::DataLossError(absl::StrCat(
        path_,
        ": some of its bytes were not there when they were read: it was cut meanwhile, or "
        "its disk or network does not give them (dmesg says which)"));
  }
  return absl::OkStatus();
}

void MmapFile::KeepForUse() const {
  if (data_ == nullptr) return;
  SetLostPage(data_, LostPage::kEndsIt);
  ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

MmapFile::~MmapFile() {
  if (data_ == nullptr) return;
  UnwatchMapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace penstock
