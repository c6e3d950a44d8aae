#include "executor/packed_cache.h"

#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backend/packed_device.h"
#include "base/content_hash.h"
#include "base/siphash.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace penstock {
namespace {

constexpr std::array<uint64_t, 2> kHashKey = {0x7061636b6564, 0x63616368};

/// Where the packed weights of a model in a form lie; another model of the same name has another.
std::string PathOf(const PackedCacheOptions& options, const std::string& kernels) {
  std::error_code error;
  const std::filesystem::path model = std::filesystem::weakly_canonical(options.model, error);
  const Hash128 which =
      SipHash128(kHashKey, absl::StrCat(model.string(), "\n", options.form, "\n", kernels));
  const std::string name = model.filename().empty() ? "model" : model.filename().string();
  return (std::filesystem::path(options.folder) /
          absl::StrCat(name, "-", absl::Hex(which.lo, absl::kZeroPad16), ".packed"))
      .string();
}

absl::StatusOr<Hash128> KeyOf(const PackedCacheOptions& options,
                              const std::vector<std::string>& files, const std::string& kernels) {
  std::string facts = absl::StrCat(options.build, "\n", options.form, "\n", kernels, "\n");
  for (const std::string& file : files) {
    int64_t bytes = 0;
    ASSIGN_OR_RETURN(const uint64_t hash, HashFile(file, *options.pool, bytes));
    absl::StrAppend(&facts, bytes, " ", hash, "\n");
  }
  return SipHash128(kHashKey, facts);
}

/// Takes the weights from the file; nullopt and a note where it is not there or not right.
std::optional<ModelWeights> TryFile(const PackedFile& file, const PackedCacheOptions& options,
                                    const ModelConfig& config, TensorSource& source,
                                    const OpenedBackend& backend, const LoadProgress& progress,
                                    PackedLoad& load) {
  absl::StatusOr<std::unique_ptr<PackedDevice>> device = ReadPacked(backend, file, *options.pool);
  absl::Status status = device.status();
  if (absl::IsNotFound(status)) return std::nullopt;
  if (status.ok()) {
    absl::StatusOr<ModelWeights> weights = LoadWeights(config, source, **device, progress);
    status = weights.ok() ? (*device)->Finish() : weights.status();
    if (status.ok()) {
      load.bytes = (*device)->file_bytes();
      return *std::move(weights);
    }
  }
  load.note = absl::StrCat("packed file ", file.path, " is built anew: ", status.message());
  return std::nullopt;
}

}  // namespace

absl::StatusOr<PackedLoad> LoadThroughCache(const PackedCacheOptions& options,
                                            const std::vector<std::string>& files,
                                            const ModelConfig& config, TensorSource& source,
                                            const OpenedBackend& backend,
                                            const LoadProgress& progress) {
  PackedLoad load;
  PackedFile file;
  file.path = PathOf(options, backend.kernels);
  ASSIGN_OR_RETURN(file.key, KeyOf(options, files, backend.kernels));
  std::optional<ModelWeights> weights =
      TryFile(file, options, config, source, backend, progress, load);
  if (weights.has_value()) {
    load.weights = *std::move(weights);
    load.what = "read";
    return load;
  }
  const absl::StatusOr<std::unique_ptr<PackedDevice>> writing =
      WritePacked(backend, file, *options.pool);
  Device& device = writing.ok() ? **writing : *backend.device;
  ASSIGN_OR_RETURN(load.weights, LoadWeights(config, source, device, progress));
  const absl::Status written = writing.ok() ? (*writing)->Finish() : writing.status();
  if (written.ok()) {
    load.what = "written";
    load.bytes = (*writing)->file_bytes();
  } else {
    absl::StrAppend(&load.note, load.note.empty() ? "" : "; ",
                    "packed weights are not kept: ", written.message());
  }
  return load;
}

}  // namespace penstock
