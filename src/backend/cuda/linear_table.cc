#include "backend/cuda/linear_table.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace penstock {
namespace {

constexpr char kHeading[] = "penstock linear table 1";
constexpr int32_t kFewRows = 64;
constexpr int32_t kMostBucket = 8192;

}  // namespace

int32_t BucketOfRows(int64_t rows) {
  if (rows <= kFewRows) return 0;
  return static_cast<int32_t>(
      std::bit_ceil(static_cast<uint64_t>(std::min<int64_t>(rows, kMostBucket))));
}

LinearTable::LinearTable(std::string folder, std::string machine) : machine_(std::move(machine)) {
  std::replace(machine_.begin(), machine_.end(), '\n', ' ');
  if (folder.empty()) return;
  std::string name = machine_;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.') c = '-';
  }
  file_ = absl::StrCat(folder, "/linear-", name, ".txt");
  Read();
}

void LinearTable::Read() {
  std::ifstream in(file_);
  std::string heading;
  std::string machine;
  if (!std::getline(in, heading) || heading != kHeading || !std::getline(in, machine) ||
      machine != machine_) {
    return;
  }
  std::map<LinearKey, LinearChoice> entries;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    LinearKey key;
    LinearChoice choice;
    int path = -1;
    words >> key.form >> key.n >> key.k >> key.bucket >> path >> std::hex;
    for (uint64_t& word : choice.algorithm) words >> word;
    if (!words || path < 0 || path > static_cast<int>(LinearPath::kExpandLibrary)) return;
    choice.path = static_cast<LinearPath>(path);
    entries[key] = choice;
  }
  entries_ = std::move(entries);
}

std::optional<LinearChoice> LinearTable::Find(const LinearKey& key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  return found->second;
}

absl::Status LinearTable::Set(const LinearKey& key, const LinearChoice& choice) {
  entries_[key] = choice;
  if (file_.empty()) return absl::OkStatus();
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(file_).parent_path(), ignored);
  const std::string beside = absl::StrCat(file_, ".", ::getpid());
  std::ofstream out(beside);
  out << kHeading << "\n" << machine_ << "\n";
  for (const auto& [k, c] : entries_) {
    out << k.form << " " << k.n << " " << k.k << " " << k.bucket << " " << static_cast<int>(c.path)
        << std::hex;
    for (const uint64_t word : c.algorithm) out << " " << word;
    out << std::dec << "\n";
  }
  out.close();
  if (out && std::rename(beside.c_str(), file_.c_str()) == 0) return absl::OkStatus();
  std::remove(beside.c_str());
  return absl::UnavailableError(absl::StrCat(file_, ": cannot be written"));
}

}  // namespace penstock
