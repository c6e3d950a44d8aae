// One state of Lua in which a script can do nothing but compute, and not for long: no input or output,
// no loading of code, bounded instructions, time and memory.
// Owns the state. Must not know links or calls.
// Threads: one at a time.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace penstock {

struct LuaBounds {
  int64_t instructions = 1'000'000;  // what copies and searches bytes takes of them as well
  size_t bytes = 8 << 20;
  absl::Duration cpu = absl::Seconds(1);  // to load the script
};

/// The CPU time of calls between two Begins is bounded by this whatever is asked for: what a script
/// does at once and unseen (a search, a comparison of long texts) comes on top.
inline constexpr absl::Duration kMostLuaCpu = absl::Milliseconds(10);

/// What a script's function said.
struct LuaAnswer {
  enum Outcome : uint8_t { kOk, kError, kRunaway } outcome = kOk;
  std::string error;
  std::optional<nlohmann::ordered_json> value;        // that it returned; nil: none
  std::optional<std::pair<int, std::string>> denied;  // status and message
  std::optional<std::string> route;                   // a model
  std::vector<std::pair<std::string, std::string>> tags;
};

class LuaState {
 public:
  /// Runs the script, which defines functions. INVALID_ARGUMENT with Lua's message.
  static absl::StatusOr<std::unique_ptr<LuaState>> Load(const std::string& source,
                                                        const std::string& name,
                                                        const LuaBounds& bounds);
  ~LuaState();

  /// Of request, prompt, delta, response and log, those that the script defines.
  const std::set<std::string>& functions() const;
  /// The bounds count anew: all calls until the next Begin share them. `cpu`: kMostLuaCpu at most.
  void Begin(absl::Duration cpu);
  /// After kRunaway the state is of no more use.
  LuaAnswer Call(const char* function, const nlohmann::ordered_json& argument,
                 const nlohmann::ordered_json& facts);

 private:
  struct Core;
  explicit LuaState(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace penstock
