// What a reload changes, and what only a restart can.
#include "config/config_diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace penstock {
namespace {

using ::testing::HasSubstr;

ServerConfig WithModel() {
  ServerConfig config;
  config.models["chat"].path = "models/chat";
  return config;
}

TEST(ConfigDiff, EqualConfigurationsHaveEqualHashesAndNoChanges) {
  EXPECT_TRUE(ConfigChanges(WithModel(), WithModel()).empty());
  EXPECT_EQ(ConfigHash(WithModel()), ConfigHash(WithModel()));
  EXPECT_EQ(ConfigHash(WithModel()).size(), 16);
}

TEST(ConfigDiff, NamesEachChange) {
  ServerConfig after = WithModel();
  after.limits.max_n = 3;
  after.models["chat"].engine.max_batch = 8;
  after.models["small"].path = "models/small";
  const std::vector<ConfigChange> changes = ConfigChanges(WithModel(), after);
  ASSERT_GE(changes.size(), 3);
  EXPECT_EQ(changes[0].path, "limits.max_n");
  EXPECT_EQ(changes[0].before, "16");
  EXPECT_EQ(changes[0].after, "3");
  EXPECT_TRUE(changes[0].live);
  EXPECT_EQ(changes[1].path, "models.chat.engine.max_batch");
  EXPECT_FALSE(changes[1].live);
  EXPECT_EQ(CheckLive(changes).message(),
            "restart_required: models.chat.engine.max_batch, models.small (new)");
  EXPECT_EQ(CheckLive(ConfigChanges(after, WithModel())).message(),
            "restart_required: models.chat.engine.max_batch, models.small (gone)");
  ServerConfig dotted;
  dotted.models["chat.2"].path = "models/chat.2";
  ServerConfig both = dotted;
  both.models["chat.2"].engine.max_batch = 8;
  both.models["chat"].path = "models/chat";
  EXPECT_THAT(CheckLive(ConfigChanges(dotted, both)).message(),
              HasSubstr("models.chat.2.engine.max_batch"));
  EXPECT_TRUE(CheckLive({changes[0]}).ok());
}

TEST(ConfigDiff, KeysCountButAreNotShown) {
  ServerConfig after = WithModel();
  after.auth.api_keys = {"secret-key"};
  const std::vector<ConfigChange> changes = ConfigChanges(WithModel(), after);
  ASSERT_EQ(changes.size(), 1);
  EXPECT_EQ(changes[0].path, "auth.api_keys");
  EXPECT_EQ(changes[0].before + changes[0].after, "0 keys1 keys");
  EXPECT_TRUE(changes[0].live);
  EXPECT_EQ(ConfigHash(after), ConfigHash(WithModel()));  // it is public, and could be tried
  ServerConfig other = after;
  other.auth.api_keys = {"secret-yek"};  // as many
  EXPECT_EQ(ConfigChanges(after, other).size(), 1);
}

TEST(ConfigDiff, WhatAFileOfASecretHoldsNeedsARestart) {
  ServerConfig before = WithModel();
  before.auth.key_file.pepper_file = "pepper";
  before.auth.key_file.pepper = "old pepper";
  before.limits.shared.password_file = "password";
  before.limits.shared.password = "old password";
  EXPECT_TRUE(ConfigChanges(before, before).empty());
  ServerConfig after = before;
  after.auth.key_file.pepper = "new pepper";
  after.limits.shared.password = "new password";
  const std::vector<ConfigChange> changes = ConfigChanges(before, after);
  EXPECT_EQ(CheckLive(changes).message(),
            "restart_required: auth.api_keys.pepper_file, limits.shared.password_file");
  for (const ConfigChange& change : changes)
    EXPECT_EQ(change.before + change.after, "a secretanother secret");
  after.auth.key_file.pepper_file = "elsewhere";  // the path says it
  EXPECT_EQ(ConfigChanges(before, after).size(), 2);
}

TEST(ConfigDiff, EveryLivePathIsOne) {
  ServerConfig config = WithModel();
  config.tenants["a"];
  config.auth.mtls["b"];
  config.guards["c"];
  const std::map<std::string, std::string> values = ConfigValues(config);
  for (const std::string_view path : LivePaths()) {
    if (const size_t star = path.find('*'); star != path.npos) {
      const bool there = std::any_of(values.begin(), values.end(), [&](const auto& value) {
        return value.first.starts_with(path.substr(0, star)) &&
               value.first.ends_with(path.substr(star + 1));
      });
      EXPECT_TRUE(there) << path;
      continue;
    }
    const auto it = values.lower_bound(std::string(path));
    ASSERT_NE(it, values.end()) << path;
    EXPECT_TRUE(it->first.starts_with(path)) << path;
  }
}

TEST(ConfigSchema, DescribesEveryField) {
  const auto schema = nlohmann::json::parse(ConfigJsonSchema());
  EXPECT_EQ(schema["additionalProperties"], false);
  const auto& properties = schema["properties"];
  EXPECT_EQ(properties["limits"]["properties"]["max_n"]["minimum"], 1);
  EXPECT_EQ(properties["engine"]["properties"]["policy"]["enum"].size(), 2);
  const auto& model = properties["models"]["additionalProperties"]["properties"];
  EXPECT_TRUE(model.contains("path") && model.contains("engine") && model.contains("lora"));
}

}  // namespace
}  // namespace penstock
