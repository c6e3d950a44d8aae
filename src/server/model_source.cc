#include "server/model_source.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "server/file_digest.h"
#include "server/http_download.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int64_t kMaxListing = 16 << 20;  // bytes of the hub's description of a model

struct HubFile {
  std::string name;
  std::string digest;  // SHA-256 (large files) or the Git blob's SHA-1, in hex
  int64_t size = 0;
};

struct HubModel {
  std::string org_name;           // org/name
  std::string revision = "main";  // a branch or tag, which may have slashes, or a commit
};

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsNamePart(std::string_view s) {
  return !s.empty() && s[0] != '.' &&
         s.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
             s.npos;
}

bool IsRevision(const std::string& s) {
  const std::vector<std::string> parts = absl::StrSplit(s, '/');
  return std::all_of(parts.begin(), parts.end(), IsNamePart);
}

absl::StatusOr<HubModel> ParseHubName(const std::string& model) {
  HubModel out;
  std::string name = model;
  if (const size_t at = name.find('@'); at != name.npos) {
    out.revision = name.substr(at + 1);
    name.resize(at);
  }
  const size_t slash = name.find('/');
  const bool valid = slash != name.npos && IsNamePart(name.substr(0, slash)) &&
                     IsNamePart(name.substr(slash + 1)) && IsRevision(out.revision);
  if (!valid) {
    return absl::NotFoundError(
        absl::StrCat("model '", model, "': no such directory, and no org/name[@rev] of a hub"));
  }
  out.org_name = name;
  return out;
}

bool Wanted(const std::string& name) {
  if (name == "1_Pooling/config.json") return true;  // of sentence-transformers
  if (name.find('/') != name.npos || name.starts_with(".") || name.starts_with("consolidated"))
    return false;
  static const std::vector<std::string> kNames = {
      "config.json",        "generation_config.json",
      "tokenizer.json",     "tokenizer_config.json",
      "tokenizer.model",    "chat_template.jinja",
      "chat_template.json", "model.safetensors.index.json",
      "spiece.model",       "sentencepiece.bpe.model",
      "modules.json",       "vocab.txt",
      "vocab.json",         "merges.txt"};
  return name.ends_with(".safetensors") || name.ends_with(".tiktoken") ||
         std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

absl::StatusOr<std::string> DigestOf(const std::string& path, const HubFile& file) {
  using Kind = RunningDigest::Kind;
  const bool sha256 = file.digest.size() == 64;
  RunningDigest digest(sha256 ? Kind::kSha256 : Kind::kSha1);
  // A Git blob hashes its header first, with its zero.
  if (!sha256) digest.Add(absl::StrCat("blob ", file.size) + '\0');
  RETURN_IF_ERROR(digest.AddFile(path));
  return digest.Hex();
}

/// One model's folder in the cache.
class HubCache {
 public:
  HubCache(const HubModel& model, const HubOptions& options) : model_(model), options_(options) {
    std::string folder = model.org_name;
    folder.replace(folder.find('/'), 1, "--");
    root_ = fs::path(options.cache_dir) / ("models--" + folder);
  }

  /// The snapshot on disk, if its config.json is there.
  std::string FindSnapshot() const {
    std::string commit = model_.revision;
    std::ifstream ref(root_ / "refs" / model_.revision);
    if (ref) ref >> commit;
    const fs::path snapshot = root_ / "snapshots" / commit;
    return fs::exists(snapshot / "config.json") ? snapshot.string() : "";
  }

  absl::StatusOr<std::string> Download() {
    ASSIGN_OR_RETURN(const std::vector<HubFile> files, List());
    if (files.empty())
      return absl::NotFoundError(
          absl::StrCat(model_.org_name, ": no safetensors checkpoint there"));
    std::error_code error;
    const fs::path snapshot = root_ / "snapshots" / commit_;
    const fs::path ref = root_ / "refs" / model_.revision;
    for (const fs::path& folder : {root_ / "blobs", snapshot, ref.parent_path()})
      fs::create_directories(folder, error);
    if (error) return absl::UnavailableError(absl::StrCat(root_.string(), ": ", error.message()));
    // config.json last: a snapshot that has it is whole.
    for (const bool config : {false, true}) {
      for (const HubFile& file : files) {
        if ((file.name == "config.json") == config) RETURN_IF_ERROR(Fetch(file, snapshot));
      }
    }
    if (model_.revision != commit_) std::ofstream(ref) << commit_;
    return snapshot.string();
  }

 private:
  absl::StatusOr<std::vector<HubFile>> List() {
    const std::string revision = absl::StrReplaceAll(model_.revision, {{"/", "%2F"}});
    const std::string url = absl::StrCat(options_.endpoint, "/api/models/", model_.org_name,
                                         "/revision/", revision, "?blobs=true");
    const absl::StatusOr<std::string> text = HttpGet(url, options_.token, kMaxListing);
    if (absl::IsNotFound(text.status())) {
      return absl::NotFoundError(absl::StrCat("model '", model_.org_name,
                                              "': no such model, or no revision '", model_.revision,
                                              "' of it: ", text.status().message()));
    }
    RETURN_IF_ERROR(text.status());
    const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
    const absl::Status wrong =
        absl::UnavailableError(absl::StrCat(url, ": not the description of a model"));
    if (!json.is_object() || !json.contains("sha") || !json["sha"].is_string() ||
        !json.contains("siblings") || !json["siblings"].is_array()) {
      return wrong;
    }
    commit_ = json["sha"];
    if (!IsNamePart(commit_)) return wrong;
    std::vector<HubFile> files;
    for (const Json& sibling : json["siblings"]) {
      if (!sibling.is_object() || !sibling.contains("rfilename") ||
          !sibling["rfilename"].is_string())
        return wrong;
      HubFile file{sibling["rfilename"], "", 0};
      if (!Wanted(file.name)) continue;
      const bool large = sibling.contains("lfs") && sibling["lfs"].is_object();
      const Json digest =
          large ? sibling["lfs"].value("sha256", Json()) : sibling.value("blobId", Json());
      const Json size = sibling.value("size", Json());
      if (!digest.is_string() || !size.is_number_unsigned() ||
          !IsNamePart(digest.get<std::string>()))
        return wrong;
      file.digest = digest;
      file.size = size;
      files.push_back(std::move(file));
    }
    return files;
  }

  absl::Status Fetch(const HubFile& file, const fs::path& snapshot) {
    const fs::path blob = root_ / "blobs" / file.digest;
    if (!fs::exists(blob)) {
      const std::string partial = blob.string() + ".incomplete";
      const std::string url = absl::StrCat(options_.endpoint, "/", model_.org_name, "/resolve/",
                                           commit_, "/", file.name);
      int64_t told = -1;
      const auto progress = [&](int64_t have) {
        const int64_t step = have * 20 / std::max<int64_t>(file.size, 1);
        if (step == told || file.size < (1 << 20)) return;
        told = step;
        options_.progress(
            absl::StrCat(file.name, ": ", have >> 20, " of ", file.size >> 20, " MiB"));
      };
      RETURN_IF_ERROR(HttpDownload(url, options_.token, partial, file.size, progress));
      ASSIGN_OR_RETURN(const std::string digest, DigestOf(partial, file));
      if (digest != file.digest) {
        fs::remove(partial);
        return absl::DataLossError(absl::StrCat(file.name, ": checksum ", digest, ", expected ",
                                                file.digest,
                                                "; the download was thrown away, try again"));
      }
      fs::rename(partial, blob);
    }
    const fs::path link = snapshot / file.name;
    std::error_code error;
    fs::create_directories(link.parent_path(), error);
    fs::remove(link, error);
    fs::create_symlink(fs::proximate(blob, link.parent_path()), link, error);
    if (error) return absl::UnavailableError(absl::StrCat(link.string(), ": ", error.message()));
    return absl::OkStatus();
  }

  HubModel model_;
  HubOptions options_;
  fs::path root_;
  std::string commit_;
};

}  // namespace

HubOptions HubOptionsFromEnvironment() {
  HubOptions options;
  if (const std::string endpoint = Env("HF_ENDPOINT"); !endpoint.empty())
    options.endpoint = endpoint;
  options.cache_dir = Env("HF_HUB_CACHE");
  if (options.cache_dir.empty()) {
    const std::string home = Env("HF_HOME");
    options.cache_dir = (home.empty() ? Env("HOME") + "/.cache/huggingface" : home) + "/hub";
  }
  options.token = Env("HF_TOKEN");
  const std::string offline = Env("HF_HUB_OFFLINE");
  options.offline = offline == "1" || offline == "true";
  options.progress = [](const std::string&) {};
  return options;
}

namespace {

/// A directory without config.json that holds one GGUF model stands for that file.
absl::StatusOr<std::string> DirectoryOrItsGguf(const std::string& dir) {
  std::error_code error;
  if (fs::exists(fs::path(dir) / "config.json", error)) return dir;
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    const bool later_shard = name.find("-of-") != name.npos && name.find("-00001-of-") == name.npos;
    if (name.ends_with(".gguf") && !later_shard) files.push_back(entry.path().string());
  }
  if (files.empty()) return dir;
  if (files.size() == 1) return files[0];
  std::sort(files.begin(), files.end());
  return absl::InvalidArgumentError(absl::StrCat("model '", dir, "': has ", files.size(),
                                                 " GGUF files; name one, such as ", files[0]));
}

}  // namespace

absl::StatusOr<std::string> ResolveModel(const std::string& model, const HubOptions& options) {
  std::error_code error;
  if (fs::is_directory(model, error)) return DirectoryOrItsGguf(model);
  if (model.ends_with(".gguf")) {
    if (fs::exists(model, error)) return model;
    return absl::NotFoundError(absl::StrCat("model '", model, "': no such file"));
  }
  ASSIGN_OR_RETURN(const HubModel hub, ParseHubName(model));
  HubCache cache(hub, options);
  if (const std::string snapshot = cache.FindSnapshot(); !snapshot.empty()) return snapshot;
  if (options.offline) {
    return absl::NotFoundError(absl::StrCat("model '", model, "': not in ", options.cache_dir,
                                            ", and HF_HUB_OFFLINE is set"));
  }
  options.progress(
      absl::StrCat(model, ": not in ", options.cache_dir, ", downloading from ", options.endpoint));
  return cache.Download();
}

std::string DefaultModelName(const std::string& model) {
  std::error_code error;
  if (model.ends_with(".gguf")) return fs::path(model).stem().string();
  if (!fs::is_directory(model, error)) return model.substr(0, model.find('@'));
  return fs::weakly_canonical(model, error).filename().string();
}

}  // namespace penstock
