// The sandbox's patterns against Lua's own library, and what goes in and out of a script.
#include "chain/lua_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <lua.hpp>
#include <random>

#include "base/thread_cpu.h"
#include "test_seed.h"

namespace penstock {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

std::unique_ptr<LuaState> Script(const std::string& source) {
  auto made = LuaState::Load(source, "test.lua", {});
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

// What `find`, `match`, `gmatch` and `gsub` say, as one text; the same source runs in both.
constexpr char kAsk[] = R"(
local function all(...)
  local out = {}
  for i = 1, select('#', ...) do out[i] = tostring((select(i, ...))) end
  return table.concat(out, ",")
end
function request(r)
  local s, p = r.text, r.pattern
  local out = all(string.find(s, p)) .. "|" .. all(string.match(s, p, 3)) .. "|" ..
              all(string.gsub(s, p, "<%0>")) .. "|" .. all(string.gsub(s, p, "", 2)) .. "|"
  if p:sub(1, 1) ~= "^" then
    for a, b in string.gmatch(s, p) do out = out .. all(a, b) .. ";" end
  end
  return out
end)";

/// By Lua 5.4 as it comes.
std::string AskLua(const std::string& text, const std::string& pattern) {
  lua_State* const state = luaL_newstate();
  luaL_openlibs(state);
  EXPECT_EQ(luaL_dostring(state, kAsk), LUA_OK);
  lua_getglobal(state, "request");
  lua_newtable(state);
  lua_pushlstring(state, text.data(), text.size());
  lua_setfield(state, -2, "text");
  lua_pushlstring(state, pattern.data(), pattern.size());
  lua_setfield(state, -2, "pattern");
  const bool ok = lua_pcall(state, 1, 1, 0) == LUA_OK;
  size_t length = 0;
  const char* said = lua_tolstring(state, -1, &length);
  const std::string out = ok ? std::string(said, length) : "error";
  lua_close(state);
  return out;
}

TEST(LuaPatterns, FindWhatLuaFinds) {
  std::mt19937 random(TestSeed());
  const auto state = Script(kAsk);
  const std::vector<std::string> items = {"a",    "b",    ".",       "%a",    "%d",   "%s", "%W",
                                          "[ab]", "[^a]", "[a-c%d]", "%.",    "[]x]", "%%", "[%w_]",
                                          "-",    "1",    " ",       "[^%s]", "[a-]"};
  const std::vector<std::string> repeats = {"", "", "", "*", "+", "-", "?"};
  const std::string letters = "aabbc1 2.x]%-_";
  int matched = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string pattern = random() % 8 == 0 ? "^" : "";
    int open = 0;
    for (size_t i = 0, count = 1 + random() % 5; i < count; ++i) {
      if (random() % 6 == 0) pattern += "()";
      if (random() % 5 == 0) {
        pattern += "(";
        ++open;
      }
      pattern += items[random() % items.size()] + repeats[random() % repeats.size()];
      if (open > 0 && random() % 2 == 0) {
        pattern += ")";
        --open;
      }
    }
    for (; open > 0; --open) pattern += ")";
    if (random() % 8 == 0) pattern += "$";
    std::string text;
    for (size_t i = random() % 14; i > 0; --i) text += letters[random() % letters.size()];
    const std::string expected = AskLua(text, pattern);
    state->Begin(absl::Seconds(10));
    const LuaAnswer said = state->Call("request", {{"text", text}, {"pattern", pattern}}, {});
    ASSERT_EQ(said.outcome, LuaAnswer::kOk) << said.error << " " << pattern;
    ASSERT_EQ(said.value->get<std::string>(), expected) << "'" << text << "' '" << pattern << "'";
    matched += !expected.starts_with("nil");
  }
  EXPECT_GT(matched, 1000);
}

TEST(LuaPatterns, AreRefusedWhereNoLinearMatcherHasThem) {
  for (const char* pattern : {"%b()", "%f[a]", "(a)%1", "[a", "(a", "a)", "%"}) {
    const auto state = Script("function request(r) return string.match('aa', r) end");
    EXPECT_EQ(state->Call("request", pattern, {}).outcome, LuaAnswer::kError) << pattern;
  }
}

TEST(LuaState, HandsJsonInAndOutAsItIs) {
  const auto state = Script("function request(r, facts) assert(facts.a == null) return r end");
  const Json value = Json::parse(
      R"({"i":1,"big":9007199254740993,"f":1.5,"t":true,"n":null,"s":"ü\u0000x","e":[],)"
      R"("o":{},"a":[1,[2,{"x":"y"}],null]})");
  const LuaAnswer said = state->Call("request", value, {{"a", nullptr}});
  ASSERT_EQ(said.outcome, LuaAnswer::kOk) << said.error;
  EXPECT_EQ(nlohmann::json(*said.value), nlohmann::json(value));  // in any order
}

TEST(LuaState, SaysWhatScriptsSay) {
  const auto state = Script(
      "function request(r) tag('k', 7) if r == 1 then return deny(429, 'slowly') end "
      "if r == 2 then route('other') end if r == 3 then error('oops') end return nil end "
      "function delta(t) return t end helper = 1");
  EXPECT_EQ(state->functions(), (std::set<std::string>{"request", "delta"}));
  EXPECT_EQ(state->Call("request", 1, {}).denied, (std::pair<int, std::string>{429, "slowly"}));
  EXPECT_EQ(state->Call("request", 2, {}).route, "other");
  EXPECT_THAT(state->Call("request", 3, {}).error, HasSubstr("oops"));
  const LuaAnswer plain = state->Call("request", 4, {});
  EXPECT_FALSE(plain.value || plain.denied || plain.route);
  ASSERT_EQ(plain.tags.size(), 1u);
  EXPECT_EQ(plain.tags[0].second, "7");
}

TEST(LuaState, RefusesScriptsThatAreNone) {
  for (const char* source : {"function request(", "\x1bLua", "error('x')", "while true do end"})
    EXPECT_FALSE(LuaState::Load(source, "test.lua", {}).ok()) << source;
}

TEST(LuaState, CallsOfOneBeginShareItsBounds) {
  const auto state = Script("function request() for i = 1, 100000 do end end");
  int calls = 0;
  while (state->Call("request", nullptr, {}).outcome == LuaAnswer::kOk && calls < 1000) ++calls;
  EXPECT_GT(calls, 2);
  EXPECT_LT(calls, 20);
}

TEST(LuaState, EndsWhatComputesUnseenBySteps) {
  for (const char* body :
       {"local t = {} for i = 1, 100000 do t['k' .. i] = 1 end "
        "for i = 1, 99999 do t['k' .. i] = nil end while true do next(t) end",
        "local t = {} for i = 1, 100000 do t['k' .. i] = 1 end "
        "for i = 1, 99999 do t['k' .. i] = nil end while true do for k in pairs(t) do break end "
        "end",
        "local t = {} for i = 1, 100000 do t[i] = 'abc' end while true do table.concat(t) end",
        "local t = {} for i = 1, 25 do t = {t, t} end return t",
        "for i = 1, 1000 do string.find(string.rep('a', 30000) .. i, string.rep('a-', 200) .. 'b') "
        "end"}) {
    absl::Duration best =
        absl::InfiniteDuration();  // another thread of the same core takes its part
    for (int i = 0; i < 5 && best >= absl::Milliseconds(120); ++i) {
      const auto state = Script("function request() " + std::string(body) + " end");
      state->Begin(absl::Seconds(10));
      const absl::Duration began = ThreadCpuTime();
      EXPECT_EQ(state->Call("request", nullptr, {}).outcome, LuaAnswer::kRunaway) << body;
      best = std::min(best, ThreadCpuTime() - began);
    }
    // kMostLuaCpu and what went on between two looks: under sanitizers this is long as well.
    EXPECT_LT(best, absl::Milliseconds(120)) << body;
  }
}

TEST(LuaState, WalksTablesAsLuaDoes) {
  const auto state = Script(
      "function request() local n, sum = 0, 0 for k, v in pairs({1, 2, x = 3}) do n = n + 1 sum = "
      "sum + v end local own = setmetatable({}, {__pairs = function(t) return function(_, k) if "
      "not "
      "k then return 1, 10 end end, t, nil end}) for k, v in pairs(own) do sum = sum + v end "
      "return {n, sum, next({}) == nil, next({7})} end");
  const LuaAnswer said = state->Call("request", nullptr, {});
  ASSERT_EQ(said.outcome, LuaAnswer::kOk) << said.error;
  EXPECT_EQ(nlohmann::json(*said.value), nlohmann::json::parse("[3,16,true,1,7]"));
}

}  // namespace
}  // namespace penstock
