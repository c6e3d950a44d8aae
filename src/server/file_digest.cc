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

std::vector<fs::path> FilesOf(const fs::path& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const std::string name = path.filename().string();
  const size_t shard = name.find("-00001-of-");
  if (!folder && shard == std::string::npos) return {path};
  std::vector<fs::path> files;
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  for (fs::directory_iterator it(folder ? path : parent, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->is_regular_file(error)) continue;
    const std::string other = it->path().filename().string();
    const bool counts = folder ? MayBeOfModel(it->path())
                               : other.compare(0, shard + 1, name, 0, shard + 1) == 0 &&
                                     other.size() == name.size() && MayBeOfModel(it->path());
    if (counts) files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

absl::StatusOr<std::string> FilesDigest(const std::string& path) {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  const auto add = [&](std::string_view bytes) {
    EVP_DigestUpdate(context.get(), bytes.data(), bytes.size());
  };
  std::vector<char> buffer(1 << 20);
  for (const fs::path& file : FilesOf(path)) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    std::ifstream in(file, std::ios::binary);
    if (error || !in) return absl::UnavailableError(absl::StrCat(file.string(), " cannot be read"));
    add(absl::StrCat(file.filename().string(), "\n", size, "\n"));
    while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0)
      add({buffer.data(), static_cast<size_t>(in.gcount())});
    if (in.bad()) return absl::UnavailableError(absl::StrCat(file.string(), " cannot be read"));
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest, &length);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest), length});
}

}  // namespace penstock
