-- Renew the lease of one running task.
--
-- KEYS  1 task record  2 leases
-- ARGV  1 task id  2 fence  3 lease in ms
-- Returns 1, or 0 where the lease has passed to another run or the task has ended
--
-- Invariant: only the newest fence of a running task can move its lease.

if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[2]
  or redis.call('HGET', KEYS[1], 'state') ~= 'running' then
  return 0
end
local time = redis.call('TIME')
local until_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'lease_until', until_ms)
redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
return 1
