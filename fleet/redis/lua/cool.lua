-- Leave a model alone for a while, after a failure that others would meet too.
--
-- KEYS  1 models
-- ARGV  1 field of the cool-down  2 reason  3 ms that the provider asked for, '' where it did not
--       4 ms after the first failure in a row, doubled with each  5 most ms of these
-- Returns the ms that the model cools down for, from now on
--
-- Invariant: calls that were under way together fail together, and count as one failure: while
-- a model cools down its failures are not counted, and its time only grows. The reason is that of
-- the failure which its time is from.

-- include time

local packed = redis.call('HGET', KEYS[1], ARGV[1]) or '0,0,'
local until_ms, failures, reason = string.match(packed, '^(%d+),(%d+),(.*)$')
until_ms, failures = tonumber(until_ms), tonumber(failures)
if until_ms <= now then
  failures = failures + 1
end
local long = tonumber(ARGV[3])
if not long then
  long = math.min(tonumber(ARGV[4]) * 2 ^ (failures - 1), tonumber(ARGV[5]))
end
if now + long >= until_ms then
  until_ms, reason = now + long, ARGV[2]
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f,%d,%s', until_ms, failures, reason))
return math.ceil(until_ms - now)
