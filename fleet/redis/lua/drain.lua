-- Put an agent into maintenance, or take it out again.
--
-- KEYS  1 agent  2 the pool's agents
-- ARGV  1 agent id  2 'maintenance' or 'idle'
-- Returns 1, or 0 where there is no such live agent
--
-- Invariant: from this moment on the agent is no capacity and fetches nothing (or is and
-- may again). What it runs, it finishes.

local status = redis.call('HGET', KEYS[1], 'status')
if not status or status == 'failed' then
  return 0
end
redis.call('HSET', KEYS[1], 'status', ARGV[2])
if ARGV[2] == 'maintenance' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], redis.call('HGET', KEYS[1], 'heartbeat'), ARGV[1])
end
return 1
