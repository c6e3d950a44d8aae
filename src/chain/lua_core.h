// What the functions of a script's sandbox share: the bounds that are left, and what the script said.
// Owns nothing. Must not know scripts.
// Threads: one at a time.
#pragma once

#include <re2/re2.h>

#include <chrono>
#include <lua.hpp>
#include <map>
#include <memory>
#include <string>

#include "chain/lua_pattern.h"
#include "chain/lua_state.h"

namespace penstock {

struct CompiledPattern {
  LuaPattern pattern;
  std::unique_ptr<RE2> expression;
};

struct LuaLedger {
  lua_State* state = nullptr;
  size_t bytes = 0, max_bytes = 0;
  int64_t left = 0;   // instructions
  int hook_step = 0;  // instructions between looks
  bool over = false;
  std::chrono::steady_clock::time_point wall_end;
  absl::Duration cpu_end;
  LuaAnswer* answer = nullptr;  // of the call that runs
  std::map<std::string, CompiledPattern> patterns;
};

LuaLedger& LedgerOf(lua_State* state);
/// Takes `units` of the instructions that are left; beyond them it does not return.
void Charge(lua_State* state, int64_t units);

/// Puts find, match, gmatch and gsub, in linear time, into the table on top of the stack.
void AddPatternFunctions(lua_State* state);
/// A JSON value on top of the stack, and the value at `index` as JSON; both may not return.
void PushJson(lua_State* state, const nlohmann::ordered_json& json);
nlohmann::ordered_json ToJson(lua_State* state, int index, int depth = 0);
/// The metatable that marks arrays, on top of the stack.
void PushArrayMark(lua_State* state);

}  // namespace penstock
