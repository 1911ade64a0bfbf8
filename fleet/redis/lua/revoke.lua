-- Keep what is revoked, for every worker to find, for as long as something waits that it may be of.
--
-- KEYS  1 revoked task ids, or stamps  2 delayed messages
-- ARGV  1 most to keep  2 ms to keep them after the last delayed message is due
--       then each task id, or stamp
-- Returns how many are kept
--
-- Invariant: what is newer has the higher number, us since 1970, and no two scripts give the same.
-- No more than the most are kept, the newest of them. While messages wait for their time nothing
-- is dropped for its age.

-- include time

local most, keep = tonumber(ARGV[1]), tonumber(ARGV[2])
local moment = tonumber(time[1]) * 1000000 + tonumber(time[2])
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if newest then
  moment = math.max(moment, tonumber(newest) + 1)
end
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', moment), ARGV[i])
end
local last_due = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if not last_due then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', moment - keep * 1000))
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -most - 1)
local ends = math.max(now, tonumber(last_due or 0)) + keep
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends))
return redis.call('ZCARD', KEYS[1])
