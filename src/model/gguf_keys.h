// Typed access to the keys of a GGUF file under its architecture's prefix; the first problem sticks
// and names the key. Remembers what was asked for, so that the rest can be named.
// Owns nothing; the file outlives it. Must not know config.json.
// Threads: confined to one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace penstock {

class Gguf;
struct GgufArchitecture;
struct GgufValue;

class GgufKeys {
 public:
  GgufKeys(const Gguf& file, std::string_view prefix) : file_(file), prefix_(prefix) {}

  std::string Key(std::string_view key) const;
  const GgufValue* Find(std::string_view key);
  /// One number, or an array that says the same of every layer.
  std::optional<int64_t> Int(std::string_view key);
  int64_t RequiredInt(std::string_view key);
  /// Finite.
  std::optional<double> Float(std::string_view key);
  std::optional<std::string_view> String(std::string_view key);
  std::optional<bool> Bool(std::string_view key);

  /// Keeps the first problem: "<path>: <key>: <problem>".
  void Fail(std::string_view key, std::string_view problem);
  void Keep(const absl::Status& status);
  const absl::Status& status() const { return status_; }
  const Gguf& file() const { return file_; }

  /// Keys under the prefix that nothing has asked for, without it.
  std::vector<std::string> Unread() const;

 private:
  template <class T>
  std::optional<T> Kept(const absl::StatusOr<std::optional<T>>& value);
  std::string Asked(std::string_view key);

  const Gguf& file_;
  std::string_view prefix_;
  std::set<std::string, std::less<>> asked_;
  absl::Status status_;
};

/// Of the keys that nothing has asked for: fails by those that change the network, and returns the
/// others, which are ignored.
std::vector<std::string> SortUnreadKeys(GgufKeys& keys, const GgufArchitecture& arch);

}  // namespace penstock
