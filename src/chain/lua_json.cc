// JSON to Lua's values and back. Arrays keep a mark, so that empty ones stay arrays.
#include <cmath>

#include "base/utf8.h"
#include "chain/lua_core.h"

namespace penstock {
namespace {

constexpr int kMaxDepth = 64;
const char kArrayMark = 0;  // its address is the key

}  // namespace

void PushArrayMark(lua_State* state) {
  if (lua_rawgetp(state, LUA_REGISTRYINDEX, &kArrayMark) == LUA_TTABLE) return;
  lua_pop(state, 1);
  lua_newtable(state);
  lua_pushboolean(state, 0);
  lua_setfield(state, -2, "__metatable");
  lua_pushvalue(state, -1);
  lua_rawsetp(state, LUA_REGISTRYINDEX, &kArrayMark);
}

void PushJson(lua_State* state, const nlohmann::ordered_json& json) {
  luaL_checkstack(state, 6, "too deep");
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return lua_pushboolean(state, json.get<bool>());
    case nlohmann::ordered_json::value_t::number_integer:
      return lua_pushinteger(state, json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
        return lua_pushnumber(state, json.get<double>());
      return lua_pushinteger(state, json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_float:
      return lua_pushnumber(state, json.get<double>());
    case nlohmann::ordered_json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      lua_pushlstring(state, text.data(), text.size());
      return;
    }
    case nlohmann::ordered_json::value_t::array: {
      lua_createtable(state, static_cast<int>(std::min<size_t>(json.size(), 1 << 16)), 0);
      lua_Integer place = 0;
      for (const auto& item : json) {
        PushJson(state, item);
        lua_rawseti(state, -2, ++place);
      }
      PushArrayMark(state);
      lua_setmetatable(state, -2);
      return;
    }
    case nlohmann::ordered_json::value_t::object:
      lua_newtable(state);
      for (const auto& [key, value] : json.items()) {
        lua_pushlstring(state, key.data(), key.size());
        PushJson(state, value);
        lua_rawset(state, -3);
      }
      return;
    default:
      return lua_pushlightuserdata(state, nullptr);
  }
}

nlohmann::ordered_json ToJson(lua_State* state, int index, int depth) {
  if (depth > kMaxDepth) luaL_error(state, "a table is too deep, or holds itself");
  luaL_checkstack(state, 6, "too deep");
  Charge(state, 8);
  switch (lua_type(state, index)) {
    case LUA_TBOOLEAN:
      return lua_toboolean(state, index) != 0;
    case LUA_TNUMBER:
      if (lua_isinteger(state, index) != 0)
        return static_cast<int64_t>(lua_tointeger(state, index));
      if (!std::isfinite(lua_tonumber(state, index))) luaL_error(state, "a number is not finite");
      return lua_tonumber(state, index);
    case LUA_TSTRING: {
      size_t length = 0;
      const char* text = lua_tolstring(state, index, &length);
      Charge(state, static_cast<int64_t>(length) / 16);
      return RepairUtf8(std::string_view(text, length));
    }
    case LUA_TTABLE:
      break;
    case LUA_TLIGHTUSERDATA:
      return nullptr;
    default:
      luaL_error(state, "a %s cannot be handed out", luaL_typename(state, index));
  }
  index = lua_absindex(state, index);
  bool array = lua_rawlen(state, index) > 0;
  if (!array && lua_getmetatable(state, index) != 0) {
    PushArrayMark(state);
    array = lua_rawequal(state, -1, -2) != 0;
    lua_pop(state, 2);
  }
  nlohmann::ordered_json out =
      array ? nlohmann::ordered_json::array() : nlohmann::ordered_json::object();
  if (array) {
    const auto size = static_cast<lua_Integer>(lua_rawlen(state, index));
    for (lua_Integer i = 1; i <= size; ++i) {
      lua_rawgeti(state, index, i);
      out.push_back(ToJson(state, -1, depth + 1));
      lua_pop(state, 1);
    }
    return out;
  }
  lua_pushnil(state);
  while (lua_next(state, index) != 0) {
    if (lua_type(state, -2) != LUA_TSTRING) luaL_error(state, "a key of an object must be a text");
    Charge(state, 1 + static_cast<int64_t>(out.size()) / 8);  // keys are looked for one by one
    size_t length = 0;
    const char* key = lua_tolstring(state, -2, &length);
    out[RepairUtf8(std::string_view(key, length))] = ToJson(state, -1, depth + 1);
    lua_pop(state, 1);
  }
  return out;
}

}  // namespace penstock
