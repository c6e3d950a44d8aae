#include "model/unread_tensors.h"

#include <gtest/gtest.h>

#include <vector>

namespace penstock {
namespace {

constexpr std::byte kOnes[4] = {std::byte{1}, std::byte{1}, std::byte{1}, std::byte{1}};
constexpr std::byte kZeros[4] = {};

const std::vector<StoredTensor> kRead = {{"model.layers.0.self_attn.o_proj.weight", kOnes, true},
                                         {"model.layers.1.self_attn.o_proj.weight", kOnes, true},
                                         {"model.norm.weight", kOnes, true}};

absl::StatusOr<UnreadTensors> Sorted(const std::string& name,
                                     absl::Span<const std::byte> data = kOnes) {
  std::vector<StoredTensor> stored = kRead;
  stored.push_back({name, data, false});
  return SortUnread(stored, 2);
}

TEST(UnreadTensors, WhatWouldChangeTheNetworkIsRefused) {
  for (const char* name :
       {"model.layers.0.self_attn.o_proj.bias", "model.layers.1.per_layer_gate.weight",
        "model.norm.bias", "model.layers.0.self_attn.c_attn.bias"}) {
    const auto unread = Sorted(name);
    ASSERT_EQ(unread.status().code(), absl::StatusCode::kUnimplemented) << name;
    EXPECT_NE(unread.status().message().find(name), std::string::npos);
  }
  EXPECT_NE(Sorted("model.layers.1.x.weight").status().message().find("layer 1"),
            std::string::npos);
}

TEST(UnreadTensors, ZerosAndWhatFollowsFromTheConfigAreListed) {
  EXPECT_EQ(
      Sorted("model.layers.0.self_attn.o_proj.bias", kZeros)->others.at("model.layers.*").num_bytes,
      4);
  for (const char* name :
       {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.attn.bias",
        "model.layers.0.self_attn.o_proj.input_scale"}) {
    EXPECT_TRUE(Sorted(name).ok()) << name;
  }
}

TEST(UnreadTensors, OtherTowersAndLayersForPredictionAreListed) {
  const auto tower = Sorted("vision_tower.encoder.layers.0.self_attn.o_proj.bias");
  ASSERT_TRUE(tower.ok()) << tower.status();
  EXPECT_EQ(tower->others.at("vision_tower.encoder.layers").num_tensors, 1);
  const auto ahead = Sorted("model.layers.2.eh_proj.weight");
  ASSERT_TRUE(ahead.ok()) << ahead.status();
  EXPECT_EQ(ahead->prediction_layers.at("model.layers.2").num_tensors, 1);
  EXPECT_TRUE(ahead->others.empty());
  EXPECT_TRUE(Sorted("pooler.dense.weight").ok());
}

}  // namespace
}  // namespace penstock
