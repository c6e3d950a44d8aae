#include "chain/lua_state.h"

#include <algorithm>
#include <cstdlib>

#include "base/thread_cpu.h"
#include "chain/lua_core.h"

namespace penstock {
namespace {

constexpr int kHookStep = 100;  // instructions between looks at what is left
constexpr int kLongStep = 10;   // where one may compare what takes milliseconds
constexpr size_t kLongText = 256 << 10;
constexpr int64_t kBytesPerUnit = 128;  // of memory asked for

void Hook(lua_State* state, lua_Debug*) {
  LuaLedger& ledger = LedgerOf(state);
  ledger.left -= ledger.hook_step;
  if (!ledger.over && ledger.left > 0) {
    // The wall clock is the cheaper one; a machine that stood still is no fault of the script.
    if (std::chrono::steady_clock::now() < ledger.wall_end || ThreadCpuTime() < ledger.cpu_end)
      return;
  }
  ledger.over = true;
  lua_sethook(state, Hook, LUA_MASKCOUNT, 1);  // nothing that catches it gets far
  luaL_error(state, "chain_limit");
}

void* Allocate(void* user, void* block, size_t old_size, size_t new_size) {
  LuaLedger& ledger = *static_cast<LuaLedger*>(user);
  const size_t had = block == nullptr ? 0 : old_size;
  if (new_size == 0) {
    std::free(block);
    ledger.bytes -= had;
    return nullptr;
  }
  if (new_size > had) {
    if (ledger.bytes - had + new_size > ledger.max_bytes) return nullptr;
    ledger.left -= static_cast<int64_t>(new_size - had) / kBytesPerUnit;
    if (ledger.left <= 0 && !ledger.over && ledger.state != nullptr) {
      ledger.over = true;
      lua_sethook(ledger.state, Hook, LUA_MASKCOUNT, 1);
    } else if (new_size >= kLongText && ledger.hook_step > kLongStep && !ledger.over &&
               ledger.state != nullptr) {
      ledger.hook_step = kLongStep;
      lua_sethook(ledger.state, Hook, LUA_MASKCOUNT, kLongStep);
    }
  }
  void* const fresh = std::realloc(block, new_size);
  if (fresh == nullptr) return new_size <= had ? block : nullptr;
  ledger.bytes += new_size - had;
  return fresh;
}

/// The original, with the length of a text as its price.
int ChargedByText(lua_State* state) {
  if (lua_type(state, 1) == LUA_TSTRING)
    Charge(state, static_cast<int64_t>(lua_rawlen(state, 1)) / 16);
  return lua_tocfunction(state, lua_upvalueindex(1))(state);
}

/// What is thrown costs more than what is computed.
int ProtectedCall(lua_State* state) {
  const int results = lua_tocfunction(state, lua_upvalueindex(1))(state);
  if (lua_toboolean(state, -results) == 0) Charge(state, 1000);
  return results;
}

bool IsPlainTable(lua_State* state, int index) {
  if (lua_type(state, index) != LUA_TTABLE) return false;
  if (lua_getmetatable(state, index) == 0) return true;
  PushArrayMark(state);
  const bool array = lua_rawequal(state, -1, -2) != 0;
  lua_pop(state, 2);
  return array;
}

/// The original on a table without metamethods, with its length as its price.
int ChargedByTable(lua_State* state) {
  if (!IsPlainTable(state, 1)) return luaL_error(state, "expected a table without a metatable");
  const auto weight = lua_tointeger(state, lua_upvalueindex(2));
  Charge(state, static_cast<int64_t>(lua_rawlen(state, 1)) * weight / 8);
  return lua_tocfunction(state, lua_upvalueindex(1))(state);
}

/// As Lua's own; looks at the clock, since one step may pass any number of holes.
int Next(lua_State* state) {
  luaL_checktype(state, 1, LUA_TTABLE);
  Charge(state, 1);
  lua_settop(state, 2);
  if (lua_next(state, 1) != 0) return 2;
  lua_pushnil(state);
  return 1;
}

int Pairs(lua_State* state) {
  luaL_checkany(state, 1);
  if (luaL_getmetafield(state, 1, "__pairs") != LUA_TNIL) {
    lua_pushvalue(state, 1);
    lua_call(state, 1, 3);
    return 3;
  }
  lua_pushcfunction(state, Next);
  lua_pushvalue(state, 1);
  lua_pushnil(state);
  return 3;
}

void WrapField(lua_State* state, const char* name, lua_CFunction wrapper, int weight) {
  lua_getfield(state, -1, name);
  lua_pushinteger(state, weight);
  lua_pushcclosure(state, wrapper, 2);
  lua_setfield(state, -2, name);
}

int Repeat(lua_State* state) {
  size_t length = 0, between = 0;
  const char* text = luaL_checklstring(state, 1, &length);
  const lua_Integer times = luaL_checkinteger(state, 2);
  const char* separator = luaL_optlstring(state, 3, "", &between);
  if (times <= 0 || length + between == 0) {
    lua_pushliteral(state, "");
    return 1;
  }
  const size_t most = LedgerOf(state).max_bytes;
  if (length + between > most / static_cast<size_t>(times) && times > 1)
    return luaL_error(state, "resulting string too large");
  Charge(state, times / 4);
  luaL_Buffer buffer;
  luaL_buffinit(state, &buffer);
  for (lua_Integer i = 0; i < times; ++i) {
    luaL_addlstring(&buffer, text, length);
    if (i + 1 < times) luaL_addlstring(&buffer, separator, between);
  }
  luaL_pushresult(&buffer);
  return 1;
}

/// A finalizer would run where no bounds hold, and weak tables cost a collector without bounds.
int SetMetatable(lua_State* state) {
  if (lua_type(state, 2) == LUA_TTABLE) {
    for (const char* field : {"__gc", "__mode"}) {
      lua_pushstring(state, field);
      if (lua_rawget(state, 2) != LUA_TNIL)
        return luaL_error(state, "a metatable may have no %s here", field);
      lua_pop(state, 1);
    }
  }
  return lua_tocfunction(state, lua_upvalueindex(1))(state);
}

int DenyCall(lua_State* state) {
  const lua_Integer status = luaL_checkinteger(state, 1);
  size_t length = 0;
  const char* text = luaL_optlstring(state, 2, "refused by a guard", &length);
  LuaAnswer* const answer = LedgerOf(state).answer;
  if (answer != nullptr && !answer->denied)
    answer->denied.emplace(static_cast<int>(std::clamp<lua_Integer>(status, 0, 999)),
                           std::string(text, std::min<size_t>(length, 1024)));
  return 0;
}

int RouteCall(lua_State* state) {
  size_t length = 0;
  const char* text = luaL_checklstring(state, 1, &length);
  if (LuaAnswer* const answer = LedgerOf(state).answer; answer != nullptr)
    answer->route = std::string(text, std::min<size_t>(length, 1024));
  return 0;
}

int TagCall(lua_State* state) {
  constexpr size_t kMaxTags = 16, kMaxTag = 256;
  size_t key_length = 0, length = 0;
  const char* key = luaL_checklstring(state, 1, &key_length);
  const char* value = luaL_tolstring(state, 2, &length);
  LuaAnswer* const answer = LedgerOf(state).answer;
  if (answer != nullptr && answer->tags.size() < kMaxTags) {
    answer->tags.emplace_back(std::string(key, std::min(key_length, kMaxTag)),
                              std::string(value, std::min(length, kMaxTag)));
  }
  return 0;
}

int MarkArray(lua_State* state) {
  luaL_checktype(state, 1, LUA_TTABLE);
  if (!IsPlainTable(state, 1)) return luaL_error(state, "expected a table without a metatable");
  lua_settop(state, 1);
  PushArrayMark(state);
  lua_setmetatable(state, 1);
  return 1;
}

void ClearFields(lua_State* state, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    lua_pushnil(state);
    lua_setfield(state, -2, name);
  }
}

/// Everything that a script may use; in protected mode.
int OpenSandbox(lua_State* state) {
  luaL_requiref(state, LUA_GNAME, luaopen_base, 1);
  ClearFields(state, {"collectgarbage", "dofile", "load", "loadfile", "loadstring", "print",
                      "require", "warn", "_VERSION"});
  // The handler of an xpcall would run within the hook that ends a script, where no bounds hold.
  ClearFields(state, {"xpcall"});
  lua_getfield(state, -1, "pcall");
  lua_pushcclosure(state, ProtectedCall, 1);
  lua_setfield(state, -2, "pcall");
  lua_getfield(state, -1, "setmetatable");
  lua_pushcclosure(state, SetMetatable, 1);
  lua_setfield(state, -2, "setmetatable");
  for (const auto& [name, function] : {std::pair<const char*, lua_CFunction>("deny", DenyCall),
                                       {"route", RouteCall},
                                       {"tag", TagCall},
                                       {"array", MarkArray},
                                       {"next", Next},
                                       {"pairs", Pairs}}) {
    lua_pushcfunction(state, function);
    lua_setfield(state, -2, name);
  }
  lua_pushlightuserdata(state, nullptr);
  lua_setfield(state, -2, "null");
  luaL_requiref(state, LUA_STRLIBNAME, luaopen_string, 1);
  ClearFields(state, {"dump", "pack", "packsize", "unpack"});
  for (const char* name : {"byte", "lower", "upper", "reverse", "sub"})
    WrapField(state, name, ChargedByText, 1);
  lua_pushcfunction(state, Repeat);
  lua_setfield(state, -2, "rep");
  AddPatternFunctions(state);
  lua_pushliteral(state, "");
  lua_getmetatable(state, -1);
  lua_pushboolean(state, 0);
  lua_setfield(state, -2, "__metatable");
  luaL_requiref(state, LUA_TABLIBNAME, luaopen_table, 1);
  ClearFields(state, {"move"});
  for (const char* name : {"insert", "remove"}) WrapField(state, name, ChargedByTable, 1);
  for (const char* name : {"concat", "unpack"}) WrapField(state, name, ChargedByTable, 8);
  WrapField(state, "sort", ChargedByTable, 160);
  luaL_requiref(state, LUA_MATHLIBNAME, luaopen_math, 1);
  luaL_requiref(state, LUA_UTF8LIBNAME, luaopen_utf8, 1);
  for (const char* name : {"len", "codepoint", "offset"}) WrapField(state, name, ChargedByText, 1);
  // luaL_requiref leaves what it opened in the registry, where no script gets.
  return 0;
}

/// Into the set that the argument points to.
int ListFunctions(lua_State* state) {
  auto& names = *static_cast<std::set<std::string>*>(lua_touserdata(state, 1));
  lua_pushglobaltable(state);
  for (const char* name : {"request", "prompt", "delta", "response", "log"}) {
    lua_pushstring(state, name);
    if (lua_rawget(state, -2) == LUA_TFUNCTION) names.insert(name);
    lua_pop(state, 1);
  }
  return 0;
}

struct Invocation {
  const char* function;
  const nlohmann::ordered_json& argument;
  const nlohmann::ordered_json& facts;
  LuaAnswer& answer;
};

int Invoke(lua_State* state) {
  const auto& call = *static_cast<Invocation*>(lua_touserdata(state, 1));
  if (lua_getglobal(state, call.function) != LUA_TFUNCTION)
    return luaL_error(state, "%s is no function", call.function);
  PushJson(state, call.argument);
  PushJson(state, call.facts);
  lua_call(state, 2, 1);
  if (!lua_isnil(state, -1)) call.answer.value = ToJson(state, -1);
  return 0;
}

}  // namespace

struct LuaState::Core {
  LuaLedger ledger;
  LuaBounds bounds;
  std::set<std::string> functions;

  ~Core() {
    if (ledger.state != nullptr) lua_close(ledger.state);
  }
  void Begin(absl::Duration cpu) {
    ledger.left = bounds.instructions;
    ledger.over = false;
    ledger.wall_end = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(cpu);
    ledger.cpu_end = ThreadCpuTime() + cpu;
    ledger.hook_step = ledger.bytes < kLongText ? kHookStep : kLongStep;
    lua_sethook(ledger.state, Hook, LUA_MASKCOUNT, ledger.hook_step);
  }
  /// Runs the function on the stack with `arguments` above it.
  LuaAnswer Run(int arguments) {
    LuaAnswer answer;
    const int status = lua_pcall(ledger.state, arguments, 0, 0);
    if (status != LUA_OK || ledger.over) {
      answer.outcome =
          ledger.over || status == LUA_ERRMEM ? LuaAnswer::kRunaway : LuaAnswer::kError;
      size_t length = 0;
      const char* text = lua_type(ledger.state, -1) == LUA_TSTRING && status != LUA_OK
                             ? lua_tolstring(ledger.state, -1, &length)
                             : nullptr;
      answer.error =
          text == nullptr ? "an error" : std::string(text, std::min<size_t>(length, 512));
    }
    lua_settop(ledger.state, 0);
    return answer;
  }
};

LuaState::LuaState(std::unique_ptr<Core> core) : core_(std::move(core)) {}
LuaState::~LuaState() = default;

LuaLedger& LedgerOf(lua_State* state) {
  return **static_cast<LuaLedger**>(lua_getextraspace(state));
}

void Charge(lua_State* state, int64_t units) {
  LuaLedger& ledger = LedgerOf(state);
  ledger.left -= units;
  const bool late =
      std::chrono::steady_clock::now() >= ledger.wall_end && ThreadCpuTime() >= ledger.cpu_end;
  if (ledger.left > 0 && !late && !ledger.over) return;
  ledger.over = true;
  lua_sethook(state, Hook, LUA_MASKCOUNT, 1);
  luaL_error(state, "chain_limit");
}

absl::StatusOr<std::unique_ptr<LuaState>> LuaState::Load(const std::string& source,
                                                         const std::string& name,
                                                         const LuaBounds& bounds) {
  auto core = std::make_unique<Core>();
  core->bounds = bounds;
  LuaLedger& ledger = core->ledger;
  ledger.max_bytes = bounds.bytes;
  lua_State* const state = lua_newstate(Allocate, &ledger);
  if (state == nullptr) return absl::ResourceExhaustedError("no memory for a script");
  ledger.state = state;
  *static_cast<LuaLedger**>(lua_getextraspace(state)) = &ledger;
  auto made = std::unique_ptr<LuaState>(new LuaState(std::move(core)));
  made->core_->Begin(bounds.cpu);
  lua_pushcfunction(state, OpenSandbox);
  LuaAnswer opened = made->core_->Run(0);
  if (opened.outcome != LuaAnswer::kOk) return absl::InternalError(opened.error);
  made->core_->Begin(bounds.cpu);
  // Text only: what is compiled could break out.
  if (luaL_loadbufferx(state, source.data(), source.size(), ("@" + name).c_str(), "t") != LUA_OK) {
    const char* text = lua_tostring(state, -1);
    return absl::InvalidArgumentError(text == nullptr ? "it cannot be read" : text);
  }
  const LuaAnswer ran = made->core_->Run(0);
  if (ran.outcome != LuaAnswer::kOk) return absl::InvalidArgumentError(ran.error);
  lua_pushcfunction(state, ListFunctions);
  lua_pushlightuserdata(state, &made->core_->functions);
  const LuaAnswer listed = made->core_->Run(1);
  if (listed.outcome != LuaAnswer::kOk) return absl::InvalidArgumentError(listed.error);
  return made;
}

const std::set<std::string>& LuaState::functions() const { return core_->functions; }

void LuaState::Begin(absl::Duration cpu) { core_->Begin(std::min(cpu, kMostLuaCpu)); }

LuaAnswer LuaState::Call(const char* function, const nlohmann::ordered_json& argument,
                         const nlohmann::ordered_json& facts) {
  LuaAnswer said;
  Invocation invocation{function, argument, facts, said};
  lua_State* const state = core_->ledger.state;
  core_->ledger.answer = &said;
  lua_pushcfunction(state, Invoke);
  lua_pushlightuserdata(state, &invocation);
  LuaAnswer ran = core_->Run(1);
  core_->ledger.answer = nullptr;
  if (ran.outcome != LuaAnswer::kOk) return ran;
  return said;
}

}  // namespace penstock
