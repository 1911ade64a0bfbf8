-- Read everything that the size of the pools depends on, at one moment.
--
-- KEYS  1 policy  2 usage counters  3 tasks on hold  4 agents
--       then for each pool: facts, in_flight, what is known of its size, its arrivals, its
--       starting workers, the lease of its starter
--       then for each pool: the lists of its queue, each with its index, and those of the overflow queue
--       of its agent type
--       then for each agent that the caller knows: its hash
-- ARGV  1 number of pools  2 lists of a queue  3 1 to return all arrivals, 0 for those of the last
--       short intervals: 4 the letter of their fields, 5 their seconds, 6 how many
--       then for each pool: scope of its agent type, limits of everything, limits of the agent type, field
--       of the size that a person set, field of the scaling policy that a person set for the pool, field
--       of the one for all
-- Returns {ms since 1970, version of the policy, ids of the agents, on hold, pools, agents}
--       pools   {maintenance, claimed, occupied, provider, in flight, waiting in its queue, us since 1970 of
--               the oldest of these, waiting in the overflow queue, us of the oldest of these, the limit
--               that has no room left, set size, set policy, policy set for all, size, arrivals, starting,
--               1 where a supervisor starts its workers}: the three before that are hashes, the limit is as in parts/limits.lua; '' for none
--       agents  {pool, status, running, heartbeat, registered, start in s, leaving, supervised} of each
--               hash, '' for what it does not have
--
-- Invariant: writes nothing. Every figure is of one moment, by the server's clock. A limit has no room
-- where what is settled reaches it: what waits in a queue has its money, so what is held may be spent.

-- include groups

local policy, money, on_hold, all_agents = unpack(KEYS, 1, 4)
local pool_count, lists_of_queue, wants_all, letter, interval, kept = unpack(ARGV, 1, 6)
local first_list, first_agent = 5 + 6 * pool_count, 5 + 6 * pool_count + 4 * pool_count * lists_of_queue
local next_pool, next_list = groups(KEYS, 5, 6), groups(KEYS, first_list, 2)
local next_agent, pools_asked = groups(KEYS, first_agent, 1), groups(ARGV, 7, 6)

-- include time
-- include windows
-- include usage_counters
-- include limits

local recent = {}
for number = math.floor(now / 1000 / interval) - kept, math.floor(now / 1000 / interval) do
  recent[#recent + 1] = string.format('%s%.0f', letter, number)
end

local function arrivals_of(key)
  if wants_all == '1' then
    return redis.call('HGETALL', key)
  end
  local found = {}
  for i, count in ipairs(redis.call('HMGET', key, unpack(recent))) do
    if count then
      found[#found + 1], found[#found + 2] = recent[i], count
    end
  end
  return found
end

local counters, windows = open_counters(money), windows_of(now / 1000)

local function depth()
  local messages, oldest = 0, nil
  for _ = 1, lists_of_queue do
    local list, index = next_list()
    messages = messages + redis.call('LLEN', list)
    for _, first in ipairs({
      redis.call('ZREVRANGEBYSCORE', index, '(0', '-inf', 'WITHSCORES', 'LIMIT', 0, 1),
      redis.call('ZRANGEBYSCORE', index, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    }) do
      local _, score = unpack(first)
      local came = score and math.abs(score)
      oldest = came and math.min(came, oldest or came) or oldest
    end
  end
  return messages, oldest and string.format('%.0f', oldest) or ''
end

local function without_room(scope, all_limits, type_limits)
  local scopes, limits = {'all', scope}, {all_limits, type_limits}
  read_limits(counters, scopes, limits, windows)
  for _, each in ipairs(scopes) do
    counters.found['held ' .. each] = numbers(nil)
  end
  local refusal = refusal_of(counters, scopes, limits, {1, 1, 1, 0}, windows, now)
  return refusal and described(refusal) or ''
end

local pools, agents = {}, {}
for scope, all_limits, type_limits, size, own_policy, common_policy in pools_asked do
  local facts, in_flight, scaling, arrivals, starting, starter = next_pool()
  local maintenance, claimed, occupied, provider =
    unpack(redis.call('HMGET', facts, 'maintenance', 'claimed', 'occupied', 'provider'))
  local set_size, set_policy, common = unpack(redis.call('HMGET', policy, size, own_policy,
    common_policy))
  local waiting, oldest = depth()
  local overflow, oldest_overflow = depth()
  pools[#pools + 1] = {
    maintenance or '', claimed or '0', occupied or '', provider or '', redis.call('SCARD', in_flight),
    waiting, oldest, overflow, oldest_overflow, without_room(scope, all_limits, type_limits),
    set_size or '', set_policy or '', common or '', redis.call('HGETALL', scaling),
    arrivals_of(arrivals), redis.call('HGETALL', starting), redis.call('EXISTS', starter)
  }
end
for agent in next_agent do
  local row = redis.call('HMGET', agent, 'pool', 'status', 'running', 'heartbeat', 'registered',
    'start_seconds', 'leaving', 'supervised')
  for i = 1, #row do
    row[i] = row[i] or ''
  end
  agents[#agents + 1] = row
end
return {now, redis.call('HGET', policy, 'version') or '0', redis.call('SMEMBERS', all_agents),
  redis.call('ZCARD', on_hold), pools, agents}
