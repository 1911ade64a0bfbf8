-- Tell a supervisor of local workers what the pools need, and note which of its workers are starting.
--
-- KEYS  1 agents
--       then for each pool: what is known of its size, its starting workers, the lease of its starter
--       then for each agent that the caller knows: its hash
-- ARGV  1 the supervisor  2 seconds for which it may be silent  3 number of pools
--       then for each pool: how many of its workers are starting
-- Returns {ids of the agents, pools, agents}
--       pools   {workers that the pool shall have, '' where nobody has decided yet, 1 where this
--               supervisor starts them, else 0}
--       agents  {pool, status, leaving, host, pid} of each hash, '' for what it does not have
--
-- Invariant: of several supervisors one starts the workers of a pool, until it is silent. Each ends its
-- own workers.

-- include groups

local all_agents = unpack(KEYS, 1, 1)
local supervisor, seconds, pool_count = unpack(ARGV, 1, 3)
local next_pool, next_agent = groups(KEYS, 2, 3), groups(KEYS, 2 + 3 * pool_count, 1)
local pools_told = groups(ARGV, 4, 1)

-- include time

local pools, agents = {}, {}
for starting_here in pools_told do
  local scaling, starting, starter = next_pool()
  if starting_here == '0' then
    redis.call('HDEL', starting, supervisor)
  else
    redis.call('HSET', starting, supervisor, starting_here .. ',' .. string.format('%.0f', now))
  end
  local owner = redis.call('GET', starter)
  if not owner or owner == supervisor then
    redis.call('SET', starter, supervisor, 'EX', seconds)
    owner = supervisor
  end
  pools[#pools + 1] =
    {redis.call('HGET', scaling, 'ordered') or '', owner == supervisor and 1 or 0}
end
for agent in next_agent do
  local row = redis.call('HMGET', agent, 'pool', 'status', 'leaving', 'host', 'pid')
  for i = 1, #row do
    row[i] = row[i] or ''
  end
  agents[#agents + 1] = row
end
return {redis.call('SMEMBERS', all_agents), pools, agents}
