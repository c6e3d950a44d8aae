// The weights of the blocks that are not attention and a dense layer: mixtures of experts, latent
// attention, the gated delta rule, encoders.
// Owns nothing. Must not know the order of computation.
// Threads: confined to the loading thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "model/weight_loader.h"

namespace penstock {

/// `prefix` ends in "layers.<i>."; `linears` are of LinearsOf with it.
absl::StatusOr<std::unique_ptr<MixtureWeights>> LoadMixture(const ModelConfig& config,
                                                            const LayerLinear& router,
                                                            const std::string& prefix,
                                                            const ModelShard& shard,
                                                            WeightLoader& loader);
absl::StatusOr<std::unique_ptr<LatentWeights>> LoadLatent(const ModelConfig& config,
                                                          const HeadShape& heads,
                                                          const LayerLinears& linears,
                                                          const std::string& prefix,
                                                          WeightLoader& loader);
absl::StatusOr<std::unique_ptr<DeltaWeights>> LoadDelta(const ModelConfig& config,
                                                        const LayerLinears& linears,
                                                        const std::string& prefix,
                                                        WeightLoader& loader);

/// A whole encoder; tables are kept by `out`.
absl::StatusOr<std::unique_ptr<EncoderWeights>> LoadEncoder(const ModelConfig& config,
                                                            WeightLoader& loader,
                                                            ModelWeights& out);

}  // namespace penstock
