// What MODEL means: a directory, a GGUF file, or org/name[@rev] from the Hugging Face cache, downloaded where it
// is not there.
// Owns nothing; files land in the shared cache layout (blobs, snapshots, refs). Must not know what
// is in the files.
// Threads: confined to the main thread (start-up).
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

struct HubOptions {
  std::string endpoint = "https://huggingface.co";  // HF_ENDPOINT
  std::string cache_dir;  // HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub
  std::string token;      // HF_TOKEN; empty: none
  bool offline = false;   // HF_HUB_OFFLINE=1: the cache only
  std::function<void(const std::string&)> progress;  // one line at a time
};

/// From the environment variables named above.
HubOptions HubOptionsFromEnvironment();

/// The directory or GGUF file that holds the model. A download resumes where an earlier one stopped, and each
/// file's checksum is verified before it becomes visible. NOT_FOUND, UNAVAILABLE, DATA_LOSS in one
/// line that says what would help.
absl::StatusOr<std::string> ResolveModel(const std::string& model, const HubOptions& options);

/// One served name for a model that was given as a path or as org/name[@rev].
std::string DefaultModelName(const std::string& model);

}  // namespace penstock
