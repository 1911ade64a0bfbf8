-- Read what the router wants to know of each pool.
--
-- KEYS  for each pool: facts, agents, in_flight
-- ARGV  1 ms after which a silent agent is dead
-- Returns one row a pool: live agents,in flight,capacity,successes,outcomes,response
--
-- Invariant: writes nothing; the row is the one that submit.lua returns.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local alive_since = now - tonumber(ARGV[1])
local rows = {}
for i = 0, #KEYS / 3 - 1 do
  local live = redis.call('ZCOUNT', KEYS[i * 3 + 2], '(' .. alive_since, '+inf')
  local in_flight = redis.call('SCARD', KEYS[i * 3 + 3])
  local facts = redis.call('HMGET', KEYS[i * 3 + 1], 'slots', 'successes', 'outcomes', 'response')
  rows[i + 1] = live .. ',' .. in_flight .. ',' .. live * tonumber(facts[1] or 0) .. ','
    .. (facts[2] or 0) .. ',' .. (facts[3] or 0) .. ',' .. (facts[4] or 0)
end
return table.concat(rows, ';')
