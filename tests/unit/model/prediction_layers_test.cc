#include "model/prediction_layers.h"

#include <gtest/gtest.h>

namespace penstock {
namespace {

TEST(PredictionLayers, AreThoseBeyondTheNetworkAndThoseNamedForIt) {
  EXPECT_EQ(PredictionLayerOf("model.layers.61.mlp.up_proj.weight", 61), "model.layers.61");
  EXPECT_EQ(PredictionLayerOf("model.layers.60.mlp.up_proj.weight", 61), "");
  EXPECT_EQ(PredictionLayerOf("model.language_model.layers.5.eh_proj.weight", 5),
            "model.language_model.layers.5");
  EXPECT_EQ(PredictionLayerOf("blk.5.nextn.eh_proj.weight", 5), "blk.5");
  EXPECT_EQ(PredictionLayerOf("mtp.fc.weight", 4), "mtp");
  EXPECT_EQ(PredictionLayerOf("model.mtp.layers.0.weight", 4), "model.mtp");
}

TEST(PredictionLayers, AreNotThoseOfOtherTowers) {
  EXPECT_EQ(PredictionLayerOf("vision_tower.encoder.layers.30.weight", 4), "");
  EXPECT_EQ(PredictionLayerOf("model.layers.x.weight", 4), "");
  EXPECT_EQ(PredictionLayerOf("model.layers.99999999999999999999.weight", 4), "");
  EXPECT_EQ(PredictionLayerOf("layers.", 0), "");
  EXPECT_EQ(PredictionLayerOf("", 0), "");
}

}  // namespace
}  // namespace penstock
