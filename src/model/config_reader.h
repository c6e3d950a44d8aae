// Typed access to the keys of a config.json; the first problem sticks and names the key.
// Owns nothing; the document outlives it. Must not know what the keys mean.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace penstock {

class ConfigReader {
 public:
  /// `what` names the document in messages. `json` must be an object.
  ConfigReader(const nlohmann::json& json, std::string_view what) : json_(json), what_(what) {}

  /// Keys that the file calls otherwise, by what they are asked for as; messages have the file's.
  using FileNames = std::map<std::string, std::string, std::less<>>;
  void set_file_names(FileNames names) { file_names_ = std::move(names); }

  /// nullptr where the key is absent or null.
  const nlohmann::json* Find(std::string_view key) const;
  /// In [low, high]; `fallback` where absent; an error where absent and there is no fallback.
  int32_t Int(std::string_view key, std::optional<int32_t> fallback, int32_t low, int32_t high);
  /// Finite and in [low, high].
  double Number(std::string_view key, std::optional<double> fallback, double low, double high);
  bool Bool(std::string_view key, bool fallback);
  std::string String(std::string_view key, std::string_view fallback);

  /// Keeps the first problem: "<what>: <key>: <problem>".
  void Fail(std::string_view key, std::string_view problem);
  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json& json_;
  std::string what_;
  FileNames file_names_;
  absl::Status status_;
};

}  // namespace penstock
