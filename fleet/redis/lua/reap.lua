-- Declare an agent dead that has been silent for too long.
--
-- KEYS  1 agent  2 agents  3 the pool's agents
-- ARGV  1 agent id  2 ms after which a silent agent is dead  3 seconds to go on showing it
-- Returns 1 where it was declared dead now, else 0
--
-- Invariant: judged by the server's clock. A dead agent is no capacity; it stays visible as
-- failed for a while, and registers anew should it come back. A beat that lies ahead is of before the
-- clock was set back: it counts as one of now.

local found = redis.call('HMGET', KEYS[1], 'heartbeat', 'status')
if not found[1] then
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 0
end
-- include time
if tonumber(found[1]) > now then
  redis.call('HSET', KEYS[1], 'heartbeat', now)
end
if found[2] == 'failed' or now - tonumber(found[1]) < tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[1], 'status', 'failed')
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
