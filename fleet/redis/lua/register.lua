-- Make an agent known and alive.
--
-- KEYS  1 agent  2 agents  3 the pool's agents  4 pool facts  5 pools
-- ARGV  1 agent id  2 pool  3 slots  then fields and values of the agent
-- Returns 1
--
-- Invariant: an agent is in its pool's zset, and so counted as capacity, only while it is
-- neither in maintenance nor dead.

local agent, all_agents, pool_agents, pool_facts, pools = unpack(KEYS)
local id, pool, slots = unpack(ARGV, 1, 3)
local fields = {unpack(ARGV, 4)}

-- include time

redis.call('DEL', agent)
redis.call('HSET', agent, 'id', id, 'pool', pool, 'slots', slots, 'status', 'idle',
  'running', 0, 'registered', now, 'heartbeat', now, unpack(fields))
redis.call('SADD', all_agents, id)
redis.call('ZADD', pool_agents, now, id)
redis.call('HSET', pool_facts, 'slots', slots)
redis.call('SADD', pools, pool)
return 1
