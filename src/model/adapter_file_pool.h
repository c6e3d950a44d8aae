// Adapters' files in the host's memory, beside a device that has its own: one that made room there
// comes back without its disk.
// Owns the bytes, the least recently used let go first. Must not know tensors.
// Threads: confined to whoever loads.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace penstock {

class AdapterFilePool {
 public:
  using Bytes = std::shared_ptr<const std::vector<std::byte>>;
  explicit AdapterFilePool(int64_t max_bytes) : max_bytes_(max_bytes) {}

  /// A file as it is now, from memory where it is what was read before; null: it is larger than the
  /// pool, no plain file, or changes as it is read.
  Bytes Read(const std::string& path);
  int64_t num_bytes() const { return num_bytes_; }

 private:
  struct Entry {
    std::string path;
    struct stat version;
    Bytes bytes;
  };
  void LetGo(std::list<Entry>::iterator entry);

  const int64_t max_bytes_;
  int64_t num_bytes_ = 0;
  std::list<Entry> entries_;  // the most recently used first
};

}  // namespace penstock
