-- Note that an agent is alive and how many tasks it runs.
--
-- KEYS  1 agent  2 the pool's agents  3 agents  4 pool facts  5 pools
-- ARGV  1 agent id  2 tasks running  3 pool  4 slots
-- Returns its status, or 'unknown' where it was taken for dead: it must register again
--
-- Invariant: an agent in maintenance stays out of its pool's capacity until it is resumed. What else
-- register.lua has written of an agent, and somebody has deleted, is there again after a beat.

local status = redis.call('HGET', KEYS[1], 'status')
if not status or status == 'failed' then
  return 'unknown'
end
-- include time
if status ~= 'maintenance' then
  status = tonumber(ARGV[2]) > 0 and 'busy' or 'idle'
  redis.call('ZADD', KEYS[2], now, ARGV[1])
end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('HSETNX', KEYS[4], 'slots', ARGV[4])
redis.call('SADD', KEYS[5], ARGV[3])
redis.call('HSET', KEYS[1], 'heartbeat', now, 'running', ARGV[2], 'status', status)
return status
