// What Redis does for tenants' limits, in one step.
// Owns nothing. Must not know who asks.
// Threads: any.
#pragma once

namespace penstock {

/// KEYS: requests, tokens (buckets), leases (of requests that run), budget, epoch.
/// ARGV: what to do (reserve | settle | renew), server, number (rising per server), what the server
/// has taken of the budget or -1, the window that this is of, lease, milliseconds that leases live,
/// the epoch that the server knows or "", one that may be begun, rpm, tpm, parallel, budget, its
/// milliseconds, tokens, requests; renew: leases. Limits of 0 are none. reserve takes tokens and
/// requests, settle gives them back (taking, where negative).
/// Answers {0 refused, 1 done, 2 its number is not above one seen before; the limit that refuses
/// (1 rpm, 2 tpm, 3 parallel, 4 budget), milliseconds to wait, requests left, tokens left, budget
/// taken by all, its window, leases, the server's highest number, epoch}.
/// What a server has taken of a budget is set, not added: its figure mends whatever Redis has lost
/// or was told twice. A Redis that was emptied under servers that knew it begins with empty buckets.
inline constexpr char kLimitsScript[] = R"lua(
local op, server, number = ARGV[1], ARGV[2], tonumber(ARGV[3])
local own, own_window = tonumber(ARGV[4]), tonumber(ARGV[5])
local lease, lease_ms, known, fresh = ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local rpm, tpm, parallel = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local budget, per = tonumber(ARGV[13]), tonumber(ARGV[14])
local tokens, requests = tonumber(ARGV[15]), tonumber(ARGV[16])
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local epoch = redis.call("GET", KEYS[5])
if not epoch then
  epoch = fresh .. ":" .. string.format("%.0f", now) .. (known == "" and ":0" or ":1")
  redis.call("SET", KEYS[5], epoch)
end
local born, cold = string.match(epoch, ":(%d+):([01])$")
born = tonumber(born)

local function level_of(key, size)
  if size <= 0 then return 0 end
  local saved = redis.call("HMGET", key, "level", "at")
  local level, at = tonumber(saved[1]), tonumber(saved[2])
  if not level or not at then
    level, at = size, now
    if cold == "1" then level, at = 0, born end
  end
  return math.min(size, level + math.max(0, now - at) * size / 60000)
end
local function keep(key, size, level)
  if size <= 0 then return end
  redis.call("HSET", key, "level", string.format("%.6f", level), "at", string.format("%.0f", now))
  redis.call("PEXPIRE", key, math.ceil((size - level) / size * 60000) + 60000)
end

local window = math.floor(now / per)
if tonumber(redis.call("HGET", KEYS[4], "window")) ~= window then
  redis.call("DEL", KEYS[4])
  redis.call("HSET", KEYS[4], "window", string.format("%.0f", window))
end
redis.call("PEXPIRE", KEYS[4], (window + 1) * per - now + 60000)
local seen = tonumber(redis.call("HGET", KEYS[4], "number:" .. server))
local stale = seen and number <= seen
if not stale then
  redis.call("HSET", KEYS[4], "number:" .. server, string.format("%.0f", number))
  if own >= 0 and own_window == window then
    redis.call("HSET", KEYS[4], "used:" .. server, string.format("%.0f", own))
  end
end
local used = 0
local fields = redis.call("HGETALL", KEYS[4])
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 5) == "used:" then used = used + tonumber(fields[i + 1]) end
end

redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", now)
local running = redis.call("ZCARD", KEYS[3])
local request_level, token_level = level_of(KEYS[1], rpm), level_of(KEYS[2], tpm)
local done, limit, wait = 1, 0, 0
if stale then
  done = 2
elseif op == "reserve" then
  if budget > 0 and used + tokens > budget then
    limit, wait = 4, (window + 1) * per - now
  elseif rpm > 0 and request_level < requests then
    limit, wait = 1, (requests - request_level) / rpm * 60000
  elseif tpm > 0 and token_level < tokens then
    limit, wait = 2, (tokens - token_level) / tpm * 60000
  elseif parallel > 0 and running >= parallel then
    limit, wait = 3, 1000
  end
  if limit > 0 then
    done = 0
  else
    request_level, token_level = request_level - requests, token_level - tokens
    used = used + tokens
    redis.call("HINCRBY", KEYS[4], "used:" .. server, string.format("%.0f", tokens))
    if parallel > 0 then
      running = running + 1
      redis.call("ZADD", KEYS[3], now + lease_ms, lease)
    end
  end
elseif op == "settle" then
  if known == epoch then
    request_level = math.min(rpm, request_level + requests)
    token_level = math.min(tpm, token_level + tokens)
  end
  redis.call("ZREM", KEYS[3], lease)
else
  for i = 17, #ARGV do redis.call("ZADD", KEYS[3], now + lease_ms, ARGV[i]) end
end
keep(KEYS[1], rpm, request_level)
keep(KEYS[2], tpm, token_level)
if running > 0 or op == "renew" then redis.call("PEXPIRE", KEYS[3], lease_ms + 1000) end
return {done, limit, math.ceil(wait), math.floor(request_level), math.floor(token_level), used,
        window, running, math.max(number, seen or 0), epoch}
)lua";

}  // namespace penstock
