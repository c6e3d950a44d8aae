// Which architectures of GGUF files are known, and what conversion made of each family's tensors.
// Owns nothing. Must not know devices.
// Threads: immutable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace penstock {

class Gguf;

/// What becomes of a family's norms beside input_layernorm.
enum class GgufNorms : uint8_t {
  kTwo,
  kGemma,
  kAfterAttention,  // the second is called post_attention_norm
  kOlmo2,
  kGlm4,
};

/// Which layers have a window, where the file gives one.
enum class GgufWindows : uint8_t { kNone, kAll, kPattern };

/// How the family's config.json spells its mixture of experts.
enum class GgufExperts : uint8_t { kNone, kMixtral, kQwen, kOlmoe, kGptOss, kDeepSeek };

struct GgufArchitecture {
  std::string_view name;         // general.architecture, and the prefix of its keys
  std::string_view hf_class;     // architectures[0] of config.json
  std::string_view model_type;   // of config.json
  bool turned = false;           // rows of q and k of each head in pairs (2i, 2i + 1)
  bool norms_plus_one = false;   // the file holds what config.json's family stores as weight - 1
  bool multipliers = false;      // embedding, residual and logit scales are the family's
  bool layer_norm = false;       // and not RMSNorm
  bool gpt2 = false;             // tensors of the checkpoint have GPT-2's names
  bool latent = false;           // multi-head latent attention
  bool delta = false;            // some layers are gated delta rules
  bool per_layer_heads = false;  // layers without a window have heads of their own
  GgufNorms norms = GgufNorms::kTwo;
  GgufExperts experts = GgufExperts::kNone;
  GgufWindows windows = GgufWindows::kNone;
  int32_t window_pattern = 0;  // kPattern: every so many-th layer is without a window
};

/// The architecture of a file; UNIMPLEMENTED with the list of known ones for any other.
absl::StatusOr<GgufArchitecture> ArchitectureOf(const Gguf& file);

/// Every architecture of the table, for messages.
std::string KnownGgufArchitectures();

}  // namespace penstock
