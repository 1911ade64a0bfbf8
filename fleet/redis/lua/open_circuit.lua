-- Open the circuit of a model: no task calls it during a cool-down, after a failure that other tasks
-- would meet too.
--
-- KEYS  1 models
-- ARGV  1 field of the cool-down  2 reason  3 ms that the provider asked for, '' where it did not
--       4 ms after the first failure in a row, doubled with each  5 max ms of these
--       6 field of the key's version, see replace_key.lua  7 the version that failed, 0 for a key
--       without versions
-- Returns the ms that the model cools down for, from now on; 0 where the key has a newer version
--
-- Invariant: calls that were in flight together fail together, and count as one failure: during a
-- cool-down the model's failures are not counted, and its time only grows. The reason is that of
-- the failure which set the time. A failure of an older version of the key says nothing of the key.

local models = unpack(KEYS)
local field, new_reason, asked_ms, first_ms, max_ms, version_field, version = unpack(ARGV)

-- include time

if version ~= '0' then
  local newest = tonumber(redis.call('HGET', models, version_field) or 0)
  if tonumber(version) < newest then
    return 0
  end
  redis.call('HSET', models, version_field, version)
end
local packed = redis.call('HGET', models, field) or '0,0,'
local until_ms, failures, reason = string.match(packed, '^(%d+),(%d+),(.*)$')
until_ms, failures = tonumber(until_ms), tonumber(failures)
if until_ms <= now then
  failures = failures + 1
end
local long = tonumber(asked_ms)
if not long then
  long = math.min(tonumber(first_ms) * 2 ^ (failures - 1), tonumber(max_ms))
end
if now + long >= until_ms then
  until_ms, reason = now + long, new_reason
end
redis.call('HSET', models, field, string.format('%.0f,%d,%s', until_ms, failures, reason))
return math.ceil(until_ms - now)
