// What a model on disk is, without loading it: sizes, formats, what of it would be ignored.
// Owns its strings. Must not know text or how a report is printed.
// Threads: value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/model_config.h"
#include "model/unread_tensors.h"

namespace penstock {

struct ModelReport {
  ModelConfig config;
  std::string family;                          // for people
  std::string quantization;                    // "": none
  int64_t num_parameters = 0;                  // without a prediction head's
  std::string prediction_head;                 // "guesses", or why not; "": there is none
  std::map<std::string, TensorShare> formats;  // by element type of the files
  std::map<std::string, TensorShare> ignored;  // groups of tensors that are not read, by prefix
  std::vector<std::string> ignored_keys;       // of a GGUF file's architecture
};

/// Checks every tensor that loading would read; errors as LoadModel's.
absl::StatusOr<ModelReport> InspectModel(const std::string& model_dir);

}  // namespace penstock
