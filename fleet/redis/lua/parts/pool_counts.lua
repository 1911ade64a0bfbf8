-- A pool's counts for the router:
--   live agents,in flight,capacity,open slots,health state,reason
-- and then a cell for each of its statistics, see parts/outcome.lua: one over all its tasks, and one
-- for each requested request type:
--   age in ms:outcomes:successes:response:failures in a row:typical response; or 0 for none
-- Needs health.

local function statistic(packed, now)
  if not packed then
    return '0'
  end
  local last, rest = string.match(packed, '^(%d+),(.*)$')
  return string.format('%.0f:', math.max(0, now - tonumber(last))) .. string.gsub(rest, ',', ':')
end

-- `types` are fields of the pool's facts: 'stat:TYPE'. `silence` is the ms after which a silent
-- agent is dead.
local function read_pool(facts_key, agents_key, in_flight_key, types, now, silence)
  local live = redis.call('ZCOUNT', agents_key, '(' .. (now - silence), '+inf')
  local facts = redis.call('HMGET', facts_key, 'slots', 'maintenance', 'health', 'stat',
    unpack(types))
  local slots, maintenance, health = facts[1], facts[2], facts[3]
  local capacity = live * tonumber(slots or 0)
  local open, state, reason = openings(capacity, maintenance, health, now)
  local statistics = {}
  for i = 4, 4 + #types do
    statistics[i - 3] = statistic(facts[i], now)
  end
  return {
    live = live, in_flight = redis.call('SCARD', in_flight_key), capacity = capacity,
    open = open, state = state, reason = reason, maintenance = maintenance,
    statistics = table.concat(statistics, ',')
  }
end

local function packed_counts(pool)
  return pool.live .. ',' .. pool.in_flight .. ',' .. pool.capacity .. ',' .. pool.open .. ','
    .. pool.state .. ',' .. pool.reason .. ',' .. pool.statistics
end
