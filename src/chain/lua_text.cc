// string.find, match, gmatch and gsub of the sandbox: Lua's patterns in linear time.
#include <algorithm>
#include <cstring>

#include "chain/lua_core.h"

namespace penstock {
namespace {

constexpr int kMaxGroups = 33;  // the match itself and 32 captures

struct Matched {
  size_t begin = 0, end = 0;
  re2::StringPiece groups[kMaxGroups];
};

std::string_view TextAt(lua_State* state, int index) {
  size_t length = 0;
  const char* text = luaL_checklstring(state, index, &length);
  return {text, length};
}

const CompiledPattern& Compiled(lua_State* state, std::string_view pattern) {
  constexpr size_t kMostKept = 16;
  std::map<std::string, CompiledPattern>& kept = LedgerOf(state).patterns;
  const std::string key(pattern.substr(0, 2048));
  if (const auto found = kept.find(key); found != kept.end()) return found->second;
  Charge(state, 500 + 20 * static_cast<int64_t>(key.size()));
  absl::StatusOr<LuaPattern> translated = TranslateLuaPattern(pattern);
  if (!translated.ok()) {
    luaL_error(state, "%s", std::string(translated.status().message()).c_str());
  }
  RE2::Options options(RE2::Latin1);
  options.set_dot_nl(true);
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  auto expression = std::make_unique<RE2>(translated->expression, options);
  if (!expression->ok()) luaL_error(state, "the pattern is too large");
  if (kept.size() >= kMostKept) kept.clear();
  return kept.emplace(key, CompiledPattern{*std::move(translated), std::move(expression)})
      .first->second;
}

/// What one search through `size` bytes takes at most: each byte against each part.
int64_t SearchCost(const CompiledPattern& compiled, size_t size) {
  const int64_t parts = 1 + compiled.expression->ProgramSize() / 8;
  return 10 + static_cast<int64_t>(size) * parts / 8;
}

/// The leftmost match that begins at `from` or later; of an anchored pattern at `from` alone. Who
/// searches on behind it has paid for the whole text, and pays here for what was passed.
bool FindMatch(lua_State* state, const CompiledPattern& compiled, std::string_view text,
               size_t from, Matched& matched) {
  const re2::StringPiece rest(text.data() + from, text.size() - from);
  const auto anchor = compiled.pattern.anchored ? RE2::ANCHOR_START : RE2::UNANCHORED;
  const int groups = static_cast<int>(compiled.pattern.positions.size()) + 1;
  if (!compiled.expression->Match(rest, 0, rest.size(), anchor, matched.groups, groups))
    return false;
  matched.begin = static_cast<size_t>(matched.groups[0].data() - text.data());
  matched.end = matched.begin + matched.groups[0].size();
  Charge(state, SearchCost(compiled, matched.end - from));
  return true;
}

void PushCapture(lua_State* state, const CompiledPattern& compiled, std::string_view text,
                 const Matched& matched, size_t capture) {
  const re2::StringPiece& group = matched.groups[capture + 1];
  if (compiled.pattern.positions[capture]) {
    lua_pushinteger(state, group.data() - text.data() + 1);
  } else {
    lua_pushlstring(state, group.data(), group.size());
  }
}

/// All captures; where there are none and `whole`, the match.
int PushCaptures(lua_State* state, const CompiledPattern& compiled, std::string_view text,
                 const Matched& matched, bool whole) {
  const size_t count = compiled.pattern.positions.size();
  luaL_checkstack(state, static_cast<int>(count) + 1, "too many captures");
  for (size_t i = 0; i < count; ++i) PushCapture(state, compiled, text, matched, i);
  if (count > 0 || !whole) return static_cast<int>(count);
  lua_pushlstring(state, matched.groups[0].data(), matched.groups[0].size());
  return 1;
}

/// The place that `init` means, from 0; beyond the end: npos.
size_t StartOf(lua_State* state, int index, size_t size) {
  const lua_Integer init = luaL_optinteger(state, index, 1);
  if (init > 0) return static_cast<size_t>(init) - 1 > size ? std::string_view::npos : init - 1;
  if (init == 0 || static_cast<size_t>(-(init + 1)) >= size) return 0;
  return size - static_cast<size_t>(-init);
}

int FindOrMatch(lua_State* state, bool find) {
  const std::string_view text = TextAt(state, 1), pattern = TextAt(state, 2);
  const size_t from = StartOf(state, 3, text.size());
  if (from == std::string_view::npos) {
    lua_pushnil(state);
    return 1;
  }
  if (find && (lua_toboolean(state, 4) != 0 ||
               pattern.find_first_of("^$*+?.([%-") == std::string_view::npos)) {
    Charge(state, 10 + static_cast<int64_t>(text.size() - from) / 16);
    const void* place = pattern.empty() ? text.data() + from
                                        : memmem(text.data() + from, text.size() - from,
                                                 pattern.data(), pattern.size());
    if (place == nullptr) {
      lua_pushnil(state);
      return 1;
    }
    const auto begin = static_cast<const char*>(place) - text.data();
    lua_pushinteger(state, begin + 1);
    lua_pushinteger(state, begin + static_cast<lua_Integer>(pattern.size()));
    return 2;
  }
  const CompiledPattern& compiled = Compiled(state, pattern);
  Charge(state, SearchCost(compiled, text.size() - from));
  Matched matched;
  if (!FindMatch(state, compiled, text, from, matched)) {
    lua_pushnil(state);
    return 1;
  }
  if (!find) return PushCaptures(state, compiled, text, matched, true);
  lua_pushinteger(state, static_cast<lua_Integer>(matched.begin) + 1);
  lua_pushinteger(state, static_cast<lua_Integer>(matched.end));
  return 2 + PushCaptures(state, compiled, text, matched, false);
}

int Find(lua_State* state) { return FindOrMatch(state, true); }
int Match(lua_State* state) { return FindOrMatch(state, false); }

/// Upvalues: the text, the pattern, where to go on, the end of the last match (-1: none).
int NextMatch(lua_State* state) {
  const std::string_view text = TextAt(state, lua_upvalueindex(1));
  const CompiledPattern& compiled = Compiled(state, TextAt(state, lua_upvalueindex(2)));
  const auto last = lua_tointeger(state, lua_upvalueindex(4));
  for (auto from = static_cast<size_t>(lua_tointeger(state, lua_upvalueindex(3)));
       from <= text.size();) {
    Matched matched;
    if (!FindMatch(state, compiled, text, from, matched)) break;
    if (static_cast<lua_Integer>(matched.end) == last) {
      from = matched.end + 1;
      continue;
    }
    lua_pushinteger(state, static_cast<lua_Integer>(matched.end));
    lua_copy(state, -1, lua_upvalueindex(3));
    lua_replace(state, lua_upvalueindex(4));
    return PushCaptures(state, compiled, text, matched, true);
  }
  return 0;
}

int EachMatch(lua_State* state) {
  const size_t size = TextAt(state, 1).size();
  const CompiledPattern& compiled = Compiled(state, TextAt(state, 2));
  Charge(state, SearchCost(compiled, size));
  if (compiled.pattern.anchored) return luaL_error(state, "gmatch takes no ^ here");
  lua_settop(state, 2);
  lua_pushinteger(state, 0);
  lua_pushinteger(state, -1);
  lua_pushcclosure(state, NextMatch, 4);
  return 1;
}

/// What stands in the place of a match, by the third argument; false: the match stays.
bool PushReplacement(lua_State* state, const CompiledPattern& compiled, std::string_view text,
                     const Matched& matched) {
  switch (lua_type(state, 3)) {
    case LUA_TFUNCTION:
      lua_pushvalue(state, 3);
      lua_call(state, PushCaptures(state, compiled, text, matched, true), 1);
      break;
    case LUA_TTABLE:
      if (compiled.pattern.positions.empty()) {
        lua_pushlstring(state, matched.groups[0].data(), matched.groups[0].size());
      } else {
        PushCapture(state, compiled, text, matched, 0);
      }
      lua_gettable(state, 3);
      break;
    default: {
      const std::string_view form = TextAt(state, 3);
      std::string out;
      for (size_t i = 0; i < form.size(); ++i) {
        if (form[i] != '%') {
          out += form[i];
          continue;
        }
        const char next = ++i < form.size() ? form[i] : 0;
        if (next == '%') {
          out += '%';
        } else if (next == '0' || (next == '1' && compiled.pattern.positions.empty())) {
          out.append(matched.groups[0].data(), matched.groups[0].size());
        } else if (next >= '1' && next <= '9' &&
                   static_cast<size_t>(next - '0') <= compiled.pattern.positions.size()) {
          PushCapture(state, compiled, text, matched, next - '1');
          size_t length = 0;
          const char* capture = lua_tolstring(state, -1, &length);
          out.append(capture, length);
          lua_pop(state, 1);
        } else {
          luaL_error(state, "invalid use of '%%' in replacement string");
        }
        Charge(state, static_cast<int64_t>(out.size()) / 64);
      }
      lua_pushlstring(state, out.data(), out.size());
    }
  }
  if (lua_toboolean(state, -1) == 0) {
    lua_pop(state, 1);
    return false;
  }
  if (lua_isstring(state, -1) == 0)
    luaL_error(state, "invalid replacement value (a %s)", luaL_typename(state, -1));
  return true;
}

int Substitute(lua_State* state) {
  const std::string_view text = TextAt(state, 1);
  const std::string pattern(TextAt(state, 2));
  const int kind = lua_type(state, 3);
  luaL_argexpected(
      state,
      kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION || kind == LUA_TTABLE, 3,
      "string/function/table");
  const lua_Integer most = luaL_optinteger(state, 4, static_cast<lua_Integer>(text.size()) + 1);
  lua_settop(state, 4);
  lua_Integer count = 0;
  size_t from = 0, last = std::string_view::npos;
  std::string out;
  const size_t max_bytes = LedgerOf(state).max_bytes;
  Charge(state, SearchCost(Compiled(state, pattern), text.size()));
  while (count < most && from <= text.size()) {
    Matched matched;
    // A replacement may have made room for other patterns: this one is looked up anew.
    const CompiledPattern& compiled = Compiled(state, pattern);
    if (!FindMatch(state, compiled, text, from, matched)) break;
    if (matched.end == last) {  // an empty one behind the last match
      if (from >= text.size()) break;
      out += text[from++];
      last = std::string_view::npos;
      if (compiled.pattern.anchored) break;
      continue;
    }
    out.append(text.substr(from, matched.begin - from));
    ++count;
    const bool anchored = compiled.pattern.anchored;
    if (PushReplacement(state, compiled, text, matched)) {
      size_t length = 0;
      const char* replacement = lua_tolstring(state, -1, &length);
      Charge(state, static_cast<int64_t>(length) / 64);
      out.append(replacement, length);
      lua_pop(state, 1);
    } else {
      out.append(text.substr(matched.begin, matched.end - matched.begin));
    }
    if (out.size() > max_bytes) luaL_error(state, "resulting string too large");
    from = last = matched.end;
    if (anchored) break;
  }
  if (from < text.size()) out.append(text.substr(from));
  lua_pushlstring(state, out.data(), out.size());
  lua_pushinteger(state, count);
  return 2;
}

}  // namespace

void AddPatternFunctions(lua_State* state) {
  for (const auto& [name, function] : {std::pair<const char*, lua_CFunction>("find", Find),
                                       {"match", Match},
                                       {"gmatch", EachMatch},
                                       {"gsub", Substitute}}) {
    lua_pushcfunction(state, function);
    lua_setfield(state, -2, name);
  }
}

}  // namespace penstock
