#include "model/adapter_file_pool.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

namespace penstock {
namespace {

bool IsSameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

}  // namespace

void AdapterFilePool::LetGo(std::list<Entry>::iterator entry) {
  num_bytes_ -= static_cast<int64_t>(entry->bytes->size());
  entries_.erase(entry);
}

AdapterFilePool::Bytes AdapterFilePool::Read(const std::string& path) {
  const auto known = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.path == path; });
  struct stat now {};
  const bool there = stat(path.c_str(), &now) == 0 && S_ISREG(now.st_mode);
  if (known != entries_.end()) {
    if (there && IsSameFile(known->version, now)) {
      entries_.splice(entries_.begin(), entries_, known);
      return known->bytes;
    }
    LetGo(known);
  }
  if (!there || now.st_size > max_bytes_) return nullptr;
  std::vector<std::byte> bytes(now.st_size);
  std::ifstream in(path, std::ios::binary);
  struct stat after {};
  if (!in.read(reinterpret_cast<char*>(bytes.data()), now.st_size) ||
      stat(path.c_str(), &after) != 0 || !IsSameFile(now, after))
    return nullptr;
  while (num_bytes_ + now.st_size > max_bytes_) LetGo(std::prev(entries_.end()));
  num_bytes_ += now.st_size;
  entries_.push_front(
      {path, now, std::make_shared<const std::vector<std::byte>>(std::move(bytes))});
  return entries_.front().bytes;
}

}  // namespace penstock
