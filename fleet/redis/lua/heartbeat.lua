-- Note that an agent is alive and how many tasks it runs.
--
-- KEYS  1 agent  2 the pool's agents  3 agents  4 pool facts  5 pools
-- ARGV  1 agent id  2 tasks running  3 pool  4 slots
-- Returns its status, or 'unknown' where it was declared dead: it must register again
--
-- Invariant: an agent in maintenance stays out of its pool's capacity until it is resumed. Everything
-- else that register.lua writes of an agent is there again after a heartbeat, should somebody have
-- deleted it.

local agent, pool_agents, all_agents, pool_facts, pools = unpack(KEYS)
local id, running, pool, slots = unpack(ARGV)

-- include time

local status, ran = unpack(redis.call('HMGET', agent, 'status', 'running'))
if not status or status == 'failed' then
  return 'unknown'
end
if status ~= 'maintenance' then
  status = tonumber(running) > 0 and 'busy' or 'idle'
  redis.call('ZADD', pool_agents, now, id)
end
redis.call('SADD', all_agents, id)
redis.call('HSETNX', pool_facts, 'slots', slots)
redis.call('SADD', pools, pool)
redis.call('HSET', agent, 'heartbeat', now, 'running', running, 'status', status)
if running ~= ran then
  redis.call('HSET', agent, 'changed', now)
end
return status
