// A low-rank adapter on a device: for each linear layer the factors of what it adds.
// Owns device memory. Must not know the order of computation, names or requests.
// Threads: immutable after loading; another adapter may be loaded meanwhile.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/adapter_copies.h"
#include "model/adapter_file_pool.h"
#include "model/model_config.h"
#include "penstock/backend.h"

namespace penstock {

/// y += scaling * b (a x) in columns [y_begin, y_begin + b.n) of y.
struct AdaptedPart {
  PackedLinear b;       // [n, rank], rows in the order of the layer's own
  int64_t a_begin = 0;  // of its rank rows of AdaptedLinear::a
  int64_t y_begin = 0;
  float scaling = 1;
};

/// What an adapter adds to one linear layer.
struct AdaptedLinear {
  PackedLinear a;                  // [sum of the parts' ranks, k]
  std::vector<AdaptedPart> parts;  // empty: the adapter leaves it alone
};

struct AdaptedExpert {
  AdaptedLinear gate_up, down;
};

/// What it adds to kv_b of latent attention, where keys' part is taken into q and values' out of the
/// result: q += scaling * down_back (keys[h] q_nope), y += scaling * values[h] (down latents).
struct AdaptedLatentUp {
  PackedLinear down;                 // [rank, kv_rank]
  PackedLinear down_back;            // [kv_rank, rank]
  std::vector<PackedLinear> keys;    // per head [rank, nope_dim]
  std::vector<PackedLinear> values;  // per head [value_dim, rank]
  float scaling = 1;
};

/// As LayerLinears.
struct AdaptedLayer {
  AdaptedLinear qkv, o, gate_up, down, z, ba, q_a, q_nope, q_rope, kv_a, router;
  std::unique_ptr<AdaptedLatentUp> kv_b;  // null: the adapter leaves it alone
  std::vector<AdaptedExpert> experts;     // as MixtureWeights::experts; empty: it leaves all alone
};

/// hidden += scaling * b table[token]
struct AdaptedEmbedding {
  DeviceBuffer storage;
  Tensor table;    // [vocab, rank]; no rows: the adapter leaves it alone
  PackedLinear b;  // [hidden, rank]
  float scaling = 1;
};

struct AdapterWeights {
  std::vector<AdaptedLayer> layers;
  AdaptedLinear head;
  AdaptedEmbedding embedding;
  int32_t rank = 0;       // the largest
  int64_t num_bytes = 0;  // on the device
};

/// What memory is kept for.
struct AdapterBounds {
  int32_t max_rank = 16;
  bool experts = false;  // adapters may change the experts that tokens are routed to
};

/// Of PEFT's `dir`: adapter_config.json, adapter_model.safetensors. Errors name file and tensor, and
/// what is not supported by its name; what is beyond `bounds` is one. `open_base` is asked where the
/// files have copies of the model's own tensors; `files` (may be null) keeps their bytes.
absl::StatusOr<AdapterWeights> LoadAdapter(const std::string& dir, const ModelConfig& config,
                                           Device& device, const AdapterBounds& bounds,
                                           const OpenBase& open_base, AdapterFilePool* files);

/// The most bytes that an adapter takes on a device.
int64_t MaxAdapterBytes(const ModelConfig& config, const AdapterBounds& bounds);
/// The most rows that an AdaptedLinear::a has.
int64_t MaxAdapterColumns(const ModelConfig& config, int32_t max_rank);

/// Room in which a decoder computes the experts of rows with an adapter, in elements.
struct AdaptedExpertRoom {
  int64_t rows = 0;  // at once; 0: the model has no experts
  int64_t in = 0;    // of a row of one expert
  int64_t wide = 0;  // likewise
  int64_t out = 0;   // float32, of a row of the batch, twice
  static AdaptedExpertRoom For(const ModelConfig& config, int32_t max_rows);
};
/// The most bytes that a decoder keeps to compute adapters in steps of `max_rows` rows.
int64_t AdapterStepBytes(const ModelConfig& config, int32_t max_rank, int32_t max_rows);

}  // namespace penstock
