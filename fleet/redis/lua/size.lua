-- Note a decision on the size of a pool: drain the agents that shall leave, take back those that shall
-- stay, and let those end that may.
--
-- KEYS  1 what is known of the pool's size  2 its arrivals  3 history  4 the pool's agents  5 pool facts
--       then the hashes of the agents that change
-- ARGV  1 the decision, as JSON, every value a string: known (the time of the last decision that the
--       caller knows, '' for none), fields (name, value, ... of the pool's size), counts (field, number,
--       ... to add to its arrivals), drops (fields of these), entry (name, value, ... for the history;
--       empty where the decision changes nothing)  2 max entries of the history
--       3 ms for which a pool without agents takes tasks, 0 where nobody would start a worker
--       4 ms after its drain, and 5 ms since it began to run nothing, after which an agent may end
--       then for each agent: its id, and what to do: 'drain', 'resume' or 'end'
-- Returns the ids of the agents that may end now, or nil where somebody else has decided meanwhile and
--       nothing was written
--
-- Invariant: of two callers that decided by the same last decision one writes. Only an agent that this
-- script has drained is taken back or ended by it: a person's drain stays. A drained agent fetches
-- nothing. It reports a change of what it runs within half a second: one that has run nothing for
-- longer holds no task, and nothing is cut when it ends. Once it may end it is not taken back.

-- include groups

local scaling, arrivals, history, pool_agents, pool_facts = unpack(KEYS, 1, 5)
local packed, max_entries, vouched_ms, drained_ms, unchanged_ms = unpack(ARGV, 1, 5)
local agents, changes = groups(KEYS, 6, 1), groups(ARGV, 6, 2)

-- include time

local decision = cjson.decode(packed)
if (redis.call('HGET', scaling, 'at') or '') ~= decision.known then
  return nil
end
redis.call('HSET', scaling, 'at', string.format('%.0f', now), unpack(decision.fields))
for field, number in groups(decision.counts, 1, 2) do
  redis.call('HINCRBY', arrivals, field, number)
end
if #decision.drops > 0 then
  redis.call('HDEL', arrivals, unpack(decision.drops))
end
if #decision.entry > 0 then
  redis.call('XADD', history, 'MAXLEN', '~', max_entries, '*', unpack(decision.entry))
end
if vouched_ms == '0' then
  redis.call('HDEL', pool_facts, 'starts_until')
else
  redis.call('HSET', pool_facts, 'starts_until', string.format('%.0f', now + vouched_ms))
end

local ended = {}
for id, change in changes do
  local agent = agents()
  local status, leaving, since, running, changed, heartbeat = unpack(redis.call('HMGET', agent,
    'status', 'leaving', 'leaving_since', 'running', 'changed', 'heartbeat'))
  if change == 'drain' and (status == 'idle' or status == 'busy') then
    redis.call('HSET', agent, 'status', 'maintenance', 'leaving', 'drained', 'leaving_since', now)
    redis.call('ZREM', pool_agents, id)
  elseif change == 'resume' and leaving == 'drained' and status == 'maintenance' then
    redis.call('HSET', agent, 'status', 'idle')
    redis.call('HDEL', agent, 'leaving', 'leaving_since')
    redis.call('ZADD', pool_agents, heartbeat, id)
  elseif change == 'end' and leaving == 'ending' then
    ended[#ended + 1] = id
  elseif change == 'end' and leaving == 'drained' and running == '0'
    and now - since >= tonumber(drained_ms) and now - (changed or since) >= tonumber(unchanged_ms) then
    redis.call('HSET', agent, 'leaving', 'ending')
    ended[#ended + 1] = id
  end
end
return ended
