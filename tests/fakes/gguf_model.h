// Small GGUF files of an architecture's keys, and the config that is read from them.
// Owns nothing. Must not know tensors beyond the embedding.
// Threads: value.
#pragma once

#include <string>

#include "fakes/gguf_writer.h"
#include "fakes/safetensors_writer.h"
#include "model/gguf_config.h"
#include "model/model_config.h"

namespace penstock {

/// The keys that every architecture needs.
inline GgufWriter GgufModel(const std::string& arch) {
  GgufWriter writer;
  writer.AddString("general.architecture", arch);
  writer.AddInt(arch + ".context_length", 512);
  writer.AddInt(arch + ".embedding_length", 32);
  writer.AddInt(arch + ".block_count", 4);
  writer.AddInt(arch + ".feed_forward_length", 48);
  writer.AddInt(arch + ".attention.head_count", 4);
  writer.AddInt(arch + ".attention.head_count_kv", 2);
  writer.AddFloat(arch + ".attention.layer_norm_rms_epsilon", 1e-5f);
  writer.AddTensor("token_embd.weight", GgmlType::kF32, {5, 32}, std::string(640, 0));
  return writer;
}

inline absl::StatusOr<ModelConfig> GgufConfigOf(const GgufWriter& writer) {
  const TempDir dir;
  const auto file = Gguf::Open(dir.Write("m.gguf", writer.Bytes()));
  if (!file.ok()) return file.status();
  const auto json = GgufConfigJson(*file);
  if (!json.ok()) return json.status();
  return ParseModelConfig(*json, "m.gguf");
}

inline std::string GgufConfigError(const GgufWriter& writer) {
  return std::string(GgufConfigOf(writer).status().message());
}

}  // namespace penstock
