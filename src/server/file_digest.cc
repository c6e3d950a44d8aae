#include "server/file_digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

/// Of a directory that may hold anything beside a model.
bool MayBeOfModel(const fs::path& file) {
  constexpr std::string_view kEndings[] = {".json", ".safetensors", ".gguf",    ".model",
                                           ".txt",  ".jinja",       ".tiktoken"};
  return std::find(std::begin(kEndings), std::end(kEndings), file.extension().string()) !=
         std::end(kEndings);
}

/// Files of `folder` that `counts`, by name.
template <class Counts>
void TakeFiles(const fs::path& folder, const Counts& counts, std::vector<fs::path>& files) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code unknown;
    if (it->is_regular_file(unknown) && counts(it->path())) files.push_back(it->path());
  }
}

std::vector<fs::path> FilesOf(const fs::path& path) {
  std::error_code error;
  const std::string name = path.filename().string();
  const size_t shard = name.find("-00001-of-");
  std::vector<fs::path> files;
  if (fs::is_directory(path, error)) {
    TakeFiles(path, MayBeOfModel, files);
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      std::error_code unknown;
      const bool hidden = it->path().filename().string().starts_with(".");
      if (!hidden && it->is_directory(unknown)) TakeFiles(it->path(), MayBeOfModel, files);
    }
  } else if (shard == std::string::npos) {
    return {path};
  } else {
    const auto of_shards = [&](const fs::path& file) {
      const std::string other = file.filename().string();
      return other.compare(0, shard + 1, name, 0, shard + 1) == 0 && other.size() == name.size() &&
             MayBeOfModel(file);
    };
    TakeFiles(path.has_parent_path() ? path.parent_path() : fs::path("."), of_shards, files);
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

struct RunningDigest::State {
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context{EVP_MD_CTX_new(), EVP_MD_CTX_free};
  std::vector<char> buffer = std::vector<char>(1 << 20);
};

RunningDigest::RunningDigest(Kind kind) : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context.get(), kind == Kind::kSha256 ? EVP_sha256() : EVP_sha1(),
                    nullptr);
}

RunningDigest::~RunningDigest() = default;

void RunningDigest::Add(std::string_view bytes) {
  EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size());
}

absl::Status RunningDigest::AddFile(const std::string& path) {
  std::vector<char>& buffer = state_->buffer;
  std::ifstream in(path, std::ios::binary);
  const bool opened = static_cast<bool>(in);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0)
    Add({buffer.data(), static_cast<size_t>(in.gcount())});
  if (!opened || in.bad()) return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
  return absl::OkStatus();
}

std::string RunningDigest::Hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(state_->context.get(), digest, &length);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest), length});
}

namespace {

/// Names and sizes of the files, and what `add_bytes` takes of each.
template <class AddBytes>
absl::StatusOr<std::string> DigestOf(const std::string& path, const AddBytes& add_bytes) {
  RunningDigest digest(RunningDigest::Kind::kSha256);
  const std::vector<fs::path> files = FilesOf(path);
  for (const fs::path& file : files) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (error) return absl::UnavailableError(absl::StrCat(file.string(), ": cannot be read"));
    const fs::path name = file.lexically_relative(fs::path(path));
    digest.Add(absl::StrCat(name == "." || name.empty() ? file.filename().string() : name.string(),
                            "\n", size, "\n"));
    RETURN_IF_ERROR(add_bytes(file.string(), size, files.size(), digest));
  }
  return digest.Hex();
}

/// Another checkpoint of the same shapes differs nearly everywhere: of a large file pieces at even
/// distances are enough to tell.
absl::Status AddParts(const std::string& path, uintmax_t size, size_t num_files,
                      RunningDigest& digest) {
  constexpr uintmax_t kWhole = 1 << 20, kPiece = 4096, kFewest = 16;
  if (size <= kWhole) return digest.AddFile(path);
  const uintmax_t num_pieces = std::max(kFewest, kWhole / kPiece / num_files);
  std::ifstream in(path, std::ios::binary);
  std::string piece(kPiece, '\0');
  for (uintmax_t i = 0; i < num_pieces; ++i) {
    const uintmax_t at = (size - kPiece) / (num_pieces - 1) * i;
    in.seekg(static_cast<std::streamoff>(at));
    if (!in.read(piece.data(), static_cast<std::streamsize>(kPiece)))
      return absl::UnavailableError(absl::StrCat(path, ": cannot be read"));
    digest.Add(piece);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> FilesDigest(const std::string& path) {
  return DigestOf(path, [](const std::string& file, uintmax_t, size_t, RunningDigest& digest) {
    return digest.AddFile(file);
  });
}

absl::StatusOr<std::string> FilesFingerprint(const std::string& path) {
  return DigestOf(path, AddParts);
}

}  // namespace penstock
