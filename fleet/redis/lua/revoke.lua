-- Keep revoked ids or stamps, for every worker to find, for as long as any message waits that they may
-- apply to.
--
-- KEYS  1 revoked task ids, or stamps  2 delayed messages
-- ARGV  1 max to keep  2 ms to keep them after the last delayed message is due
--       then each task id, or stamp
-- Returns how many are kept
--
-- Invariant: a newer one has the higher score, us since 1970, and no two scripts give the same.
-- No more than the max are kept, the newest of them. While messages wait for their time nothing
-- is dropped for its age.

-- include groups

local revoked, deferred = unpack(KEYS)
local max, keep_ms = unpack(ARGV, 1, 2)
local new_members = groups(ARGV, 3, 1)

-- include time

max, keep_ms = tonumber(max), tonumber(keep_ms)
local moment = tonumber(time[1]) * 1000000 + tonumber(time[2])
local newest = redis.call('ZREVRANGE', revoked, 0, 0, 'WITHSCORES')[2]
if newest then
  moment = math.max(moment, tonumber(newest) + 1)
end
for member in new_members do
  redis.call('ZADD', revoked, 'NX', string.format('%.0f', moment), member)
end
local last_due = redis.call('ZREVRANGE', deferred, 0, 0, 'WITHSCORES')[2]
if not last_due then
  redis.call('ZREMRANGEBYSCORE', revoked, '-inf', string.format('%.0f', moment - keep_ms * 1000))
end
redis.call('ZREMRANGEBYRANK', revoked, 0, -max - 1)
local ends = math.max(now, tonumber(last_due or 0)) + keep_ms
redis.call('PEXPIREAT', revoked, string.format('%.0f', ends))
return redis.call('ZCARD', revoked)
