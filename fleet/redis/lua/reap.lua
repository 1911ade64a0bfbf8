-- Declare an agent dead that has been silent for too long.
--
-- KEYS  1 agent  2 agents  3 the pool's agents
-- ARGV  1 agent id  2 ms after which a silent agent is dead  3 seconds to go on showing it
-- Returns 1 where it was declared dead now, else 0
--
-- Invariant: the server's clock decides. A dead agent is no capacity. It stays visible as
-- failed for a while, and registers anew should it come back. A heartbeat that lies ahead is from
-- before the clock was set back: it counts as one of now.

local agent, all_agents, pool_agents = unpack(KEYS)
local id, silence_ms, seconds = unpack(ARGV)

-- include time

local heartbeat, status = unpack(redis.call('HMGET', agent, 'heartbeat', 'status'))
if not heartbeat then
  redis.call('SREM', all_agents, id)
  redis.call('ZREM', pool_agents, id)
  return 0
end
if tonumber(heartbeat) > now then
  redis.call('HSET', agent, 'heartbeat', now)
end
if status == 'failed' or now - tonumber(heartbeat) < tonumber(silence_ms) then
  return 0
end
redis.call('HSET', agent, 'status', 'failed')
redis.call('EXPIRE', agent, seconds)
redis.call('ZREM', pool_agents, id)
return 1
