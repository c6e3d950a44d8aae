#include "backend/cpu/packed_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/content_hash.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

/// Pages of the file that are read and hashed as one section.
struct SectionToRead {
  int64_t file_begin;
  std::byte* to;
  int64_t bytes;
  uint64_t hash;
  size_t first_chunk;
};

absl::StatusOr<std::vector<PackedLayer>> ReadIndex(int fd, const PackedFile& file,
                                                   int64_t file_bytes) {
  std::vector<std::byte> page(kPackedPage);
  if (file_bytes < kPackedPage) return absl::DataLossError("it is shorter than its header");
  RETURN_IF_ERROR(ReadFully(fd, 0, page.data(), kPackedPage));
  ASSIGN_OR_RETURN(const PackedHeader header, ParsePackedHeader(page, file_bytes));
  if (header.key != file.key) {
    return absl::FailedPreconditionError("it is of another model, form or program");
  }
  std::vector<std::byte> index(header.index_bytes);
  RETURN_IF_ERROR(ReadFully(fd, header.index_begin, index.data(), header.index_bytes));
  if (ContentHash(index) != header.index_hash) {
    return absl::DataLossError("its index does not match its hash");
  }
  return ParsePackedIndex(index, header.index_begin);
}

absl::Status ReadSections(int fd, absl::Span<const SectionToRead> sections, WorkerPool& pool) {
  std::vector<std::pair<size_t, int64_t>> chunks;  // section, offset in it
  for (size_t s = 0; s < sections.size(); ++s) {
    for (int64_t at = 0; at < sections[s].bytes; at += kHashChunk) chunks.emplace_back(s, at);
  }
  std::vector<uint64_t> hashes(chunks.size());
  std::atomic<bool> failed = false;
  pool.ParallelFor(static_cast<int64_t>(chunks.size()), [&](int64_t i) {
    const auto [s, at] = chunks[i];
    const SectionToRead& section = sections[s];
    const int64_t size = std::min(kHashChunk, section.bytes - at);
    if (!ReadFully(fd, section.file_begin + at, section.to + at, size).ok()) failed = true;
    hashes[i] = ContentHash({section.to + at, static_cast<size_t>(size)});
  });
  if (failed) return absl::DataLossError("it cannot be read to its end");
  for (const SectionToRead& section : sections) {
    const size_t count = (section.bytes + kHashChunk - 1) / kHashChunk;
    if (JoinHashes(absl::MakeConstSpan(hashes).subspan(section.first_chunk, count)) !=
        section.hash) {
      return absl::DataLossError("its weights do not match their hash");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoredLayers> ReadStoredLayers(const PackedFile& file, Device& device,
                                              WorkerPool& pool) {
  const OpenFile open(file.path);
  if (open.fd() < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", file.path));
  struct stat info {};
  if (::fstat(open.fd(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::DataLossError("it is not a regular file");
  }
  StoredLayers stored;
  stored.file_bytes = info.st_size;
  ASSIGN_OR_RETURN(std::vector<PackedLayer> layers, ReadIndex(open.fd(), file, info.st_size));
  std::vector<SectionToRead> sections;
  int64_t at = kPackedPage;
  size_t num_chunks = 0;
  for (PackedLayer& layer : layers) {
    StoredLayer& one = stored.layers.emplace_back();
    one.layer = std::move(layer);
    for (auto [section, buffer] :
         {std::pair(&one.layer.weight, &one.weight), std::pair(&one.layer.bias, &one.bias)}) {
      const int64_t bytes = PackedPages(section->bytes);
      ASSIGN_OR_RETURN(*buffer, device.Allocate(bytes));
      sections.push_back(
          {at, static_cast<std::byte*>(buffer->data()), bytes, section->hash, num_chunks});
      num_chunks += (bytes + kHashChunk - 1) / kHashChunk;
      at += bytes;
    }
  }
  RETURN_IF_ERROR(ReadSections(open.fd(), sections, pool));
  return stored;
}

}  // namespace penstock
