#include "backend/cpu/packed_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/content_hash.h"
#include "base/lost_pages.h"
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

/// Pages of the file that are hashed as one section.
struct Section {
  int64_t begin;
  int64_t bytes;
  uint64_t hash;
  DeviceBuffer* buffer;
};

/// The file, mapped until its parts are handed out or it is copied.
class Mapping {
 public:
  Mapping(int fd, int64_t bytes, const std::string& path) : path_(path), bytes_(bytes) {
    void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return;
    data_ = static_cast<std::byte*>(data);
    WatchMapping(data, bytes, path, LostPage::kIsZeros);
  }
  ~Mapping() {
    if (data_ != nullptr) Unmap(data_, bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* data() const { return data_; }
  bool has_lost_pages() const { return HasLostPages(data_); }

  /// Each section keeps its pages; all others are unmapped.
  void HandOut(absl::Span<const Section> sections) {
    int64_t at = 0;
    UnwatchMapping(data_);
    for (const Section& s : sections) {
      if (s.bytes == 0) continue;
      if (s.begin > at) ::munmap(data_ + at, s.begin - at);
      WatchMapping(data_ + s.begin, s.bytes, path_, LostPage::kEndsIt);
      *s.buffer = DeviceBuffer(data_ + s.begin, s.bytes, Unmap);
      at = s.begin + s.bytes;
    }
    if (bytes_ > at) ::munmap(data_ + at, bytes_ - at);
    data_ = nullptr;
  }

 private:
  static void Unmap(void* data, size_t bytes) {
    UnwatchMapping(data);
    ::munmap(data, bytes);
  }

  const std::string& path_;
  std::byte* data_ = nullptr;
  int64_t bytes_;
};

/// Bytes of the mapping that begins at `data` that huge pages of the page cache hold.
int64_t BytesInHugePages(const void* data) {
  std::ifstream smaps("/proc/self/smaps");
  const std::string begin = absl::StrCat(absl::Hex(reinterpret_cast<uintptr_t>(data)), "-");
  bool found = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.starts_with(begin)) found = true;
    long long kib = 0;
    if (found && std::sscanf(line.c_str(), "FilePmdMapped: %lld kB", &kib) == 1) return kib << 10;
  }
  return 0;
}

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

/// [section, offset in it] of the chunks that are hashed and copied.
std::vector<std::pair<size_t, int64_t>> ChunksOf(absl::Span<const Section> sections) {
  std::vector<std::pair<size_t, int64_t>> chunks;
  for (size_t s = 0; s < sections.size(); ++s) {
    for (int64_t at = 0; at < sections[s].bytes; at += kHashChunk) chunks.emplace_back(s, at);
  }
  return chunks;
}

absl::Status CheckSections(const std::byte* file, absl::Span<const Section> sections,
                           WorkerPool& pool) {
  const auto chunks = ChunksOf(sections);
  std::vector<uint64_t> hashes(chunks.size());
  pool.ParallelFor(static_cast<int64_t>(chunks.size()), [&](int64_t i) {
    const auto [s, at] = chunks[i];
    const int64_t size = std::min(kHashChunk, sections[s].bytes - at);
    hashes[i] = ContentHash({file + sections[s].begin + at, static_cast<size_t>(size)});
  });
  size_t first = 0;
  for (const Section& section : sections) {
    const size_t count = (section.bytes + kHashChunk - 1) / kHashChunk;
    if (JoinHashes(absl::MakeConstSpan(hashes).subspan(first, count)) != section.hash) {
      return absl::DataLossError("its weights do not match their hash");
    }
    first += count;
  }
  return absl::OkStatus();
}

absl::Status CopySections(const std::byte* file, absl::Span<const Section> sections,
                          CpuDevice& device, WorkerPool& pool) {
  for (const Section& section : sections) {
    ASSIGN_OR_RETURN(*section.buffer, device.AllocateWeight(section.bytes));
  }
  const auto chunks = ChunksOf(sections);
  pool.ParallelFor(static_cast<int64_t>(chunks.size()), [&](int64_t i) {
    const auto [s, at] = chunks[i];
    std::memcpy(static_cast<std::byte*>(sections[s].buffer->data()) + at,
                file + sections[s].begin + at, std::min(kHashChunk, sections[s].bytes - at));
  });
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoredLayers> ReadStoredLayers(const PackedFile& file, CpuDevice& device,
                                              WorkerPool& pool, double least_huge) {
  const OpenFile open(file.path);
  if (open.fd() < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", file.path));
  struct stat info {};
  if (::fstat(open.fd(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::DataLossError("it is not a regular file");
  }
  StoredLayers stored;
  stored.file_bytes = info.st_size;
  ASSIGN_OR_RETURN(std::vector<PackedLayer> layers, ReadIndex(open.fd(), file, info.st_size));
  stored.layers.resize(layers.size());
  std::vector<Section> sections;
  int64_t at = kPackedPage;
  for (size_t i = 0; i < layers.size(); ++i) {
    StoredLayer& one = stored.layers[i];
    one.layer = std::move(layers[i]);
    for (const auto& [section, buffer] :
         {std::pair(&one.layer.weight, &one.weight), std::pair(&one.layer.bias, &one.bias)}) {
      sections.push_back({at, PackedPages(section->bytes), section->hash, buffer});
      at += sections.back().bytes;
    }
  }
  Mapping mapping(open.fd(), info.st_size, file.path);
  if (mapping.data() == nullptr) return absl::ErrnoToStatus(errno, "it cannot be mapped");
  RETURN_IF_ERROR(CheckSections(mapping.data(), sections, pool));
  const auto huge = static_cast<double>(BytesInHugePages(mapping.data()));
  if (huge >= least_huge * static_cast<double>(info.st_size)) {
    stored.mapped = true;
    mapping.HandOut(sections);
  } else {
    RETURN_IF_ERROR(CopySections(mapping.data(), sections, device, pool));
    if (mapping.has_lost_pages()) return absl::DataLossError("it was cut while it was read");
  }
  return stored;
}

}  // namespace penstock
