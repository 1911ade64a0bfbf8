-- A pool's row for the router:
--   live agents,in flight,capacity,open slots,standing,reason
-- and then a cell for each of its statistics, see parts/outcome.lua: that of all its tasks and
-- those of the request types asked for:
--   age in ms:outcomes:successes:response:failures in a row:typical response, or 0 for none

local function statistic(packed, now)
  if not packed then
    return '0'
  end
  local last, rest = string.match(packed, '^(%d+),(.*)$')
  return string.format('%.0f:', math.max(0, now - tonumber(last))) .. string.gsub(rest, ',', ':')
end

local function read_pool(facts_key, agents_key, in_flight_key, types, now, silence)
  local live = redis.call('ZCOUNT', agents_key, '(' .. (now - silence), '+inf')
  local facts = redis.call('HMGET', facts_key, 'slots', 'maintenance', 'health', 'stat',
    unpack(types))
  local capacity = live * tonumber(facts[1] or 0)
  local open, standing, reason = openings(capacity, facts[2], facts[3], now)
  local statistics = {}
  for i = 4, 4 + #types do
    statistics[i - 3] = statistic(facts[i], now)
  end
  return {
    live = live, in_flight = redis.call('SCARD', in_flight_key), capacity = capacity,
    open = open, standing = standing, reason = reason, maintenance = facts[2],
    statistics = table.concat(statistics, ',')
  }
end

local function row(pool)
  return pool.live .. ',' .. pool.in_flight .. ',' .. pool.capacity .. ',' .. pool.open .. ','
    .. pool.standing .. ',' .. pool.reason .. ',' .. pool.statistics
end
