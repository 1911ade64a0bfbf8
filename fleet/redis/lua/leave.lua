-- Forget an agent that shuts down in good order.
--
-- KEYS  1 agent  2 agents  3 the pool's agents
-- ARGV  1 agent id
-- Returns 1
--
-- Invariant: an agent that has left is neither capacity nor shown.

local agent, all_agents, pool_agents = unpack(KEYS)
local id = unpack(ARGV)

redis.call('DEL', agent)
redis.call('SREM', all_agents, id)
redis.call('ZREM', pool_agents, id)
return 1
