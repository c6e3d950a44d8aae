#include "backend/cpu/packed_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/content_hash.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

std::string PartialPath(const PackedFile& file) { return file.path + ".partial"; }

/// A lock on a file that has meanwhile taken its place, or was removed, is worth nothing.
bool LockedAndInPlace(int fd, const std::string& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return false;
  struct stat locked {};
  struct stat there {};
  return ::fstat(fd, &locked) == 0 && ::stat(path.c_str(), &there) == 0 &&
         locked.st_ino == there.st_ino && locked.st_dev == there.st_dev;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedWriter>> PackedWriter::Create(const PackedFile& file,
                                                                   WorkerPool& pool) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(file.path).parent_path(), error);
  const std::string partial = PartialPath(file);
  const int fd = ::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", partial));
  if (!LockedAndInPlace(fd, partial)) {
    ::close(fd);
    return absl::UnavailableError(absl::StrCat(partial, " is being written by another process"));
  }
  auto writer = std::unique_ptr<PackedWriter>(new PackedWriter(file, fd, pool));
  if (::ftruncate(fd, 0) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", partial));
  }
  return writer;
}

PackedWriter::~PackedWriter() {
  if (!finished_) ::unlink(PartialPath(file_).c_str());
  ::close(fd_);
}

absl::Status PackedWriter::Write(int64_t begin, absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), begin);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", PartialPath(file_)));
    }
    bytes.remove_prefix(put);
    begin += put;
  }
  return absl::OkStatus();
}

absl::StatusOr<PackedSection> PackedWriter::AddSection(const void* data, int64_t bytes) {
  const absl::Span<const std::byte> all(static_cast<const std::byte*>(data), bytes);
  const int64_t padded = PackedPages(bytes);
  std::vector<uint64_t> hashes((padded + kHashChunk - 1) / kHashChunk);
  std::vector<std::byte> last;  // chunk, with the zeros that fill its page
  if (!hashes.empty()) {
    const auto begin = static_cast<int64_t>(hashes.size() - 1) * kHashChunk;
    last.assign(all.begin() + begin, all.end());
    last.resize(padded - begin);
  }
  pool_.ParallelFor(static_cast<int64_t>(hashes.size()), [&](int64_t i) {
    const bool is_last = i + 1 == static_cast<int64_t>(hashes.size());
    hashes[i] =
        ContentHash(is_last ? absl::MakeConstSpan(last) : all.subspan(i * kHashChunk, kHashChunk));
  });
  const auto whole = padded - static_cast<int64_t>(last.size());
  RETURN_IF_ERROR(Write(at_, all.subspan(0, whole)));
  RETURN_IF_ERROR(Write(at_ + whole, last));
  at_ += padded;
  return PackedSection{bytes, JoinHashes(hashes)};
}

absl::Status PackedWriter::Add(const PackedLinear& packed, int64_t weight_bytes) {
  PackedLayer& layer = layers_.emplace_back();
  layer.n = packed.n;
  layer.k = packed.k;
  for (const LinearSegment& segment : packed.segments) {
    layer.types.emplace_back(segment.scale_type, segment.offset_type);
  }
  ASSIGN_OR_RETURN(layer.weight, AddSection(packed.weight.data(), weight_bytes));
  const bool has_bias = packed.bias.data() != nullptr;
  ASSIGN_OR_RETURN(layer.bias,
                   AddSection(packed.bias.data(),
                              has_bias ? packed.n * static_cast<int64_t>(sizeof(float)) : 0));
  return absl::OkStatus();
}

absl::Status PackedWriter::Finish() {
  const std::vector<std::byte> index = FormatPackedIndex(layers_);
  PackedHeader header;
  header.key = file_.key;
  header.index_begin = at_;
  header.index_bytes = static_cast<int64_t>(index.size());
  header.index_hash = ContentHash(index);
  RETURN_IF_ERROR(Write(at_, index));
  at_ += header.index_bytes;
  RETURN_IF_ERROR(Write(0, FormatPackedHeader(header)));
  const std::string partial = PartialPath(file_);
  if (::fsync(fd_) != 0 || ::rename(partial.c_str(), file_.path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot put ", file_.path, " in place"));
  }
  finished_ = true;
  const std::string folder = std::filesystem::path(file_.path).parent_path();
  const int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);  // that the new name lasts; without it a crash brings back the old file
    ::close(directory);
  }
  return absl::OkStatus();
}

}  // namespace penstock
