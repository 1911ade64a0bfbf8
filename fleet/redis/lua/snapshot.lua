-- Read what the router wants to know of each pool.
--
-- KEYS  for each pool: facts, agents, in_flight
-- ARGV  1 ms after which a silent agent is dead  then the request types to tell of
-- Returns {ms since 1970, rows}: one row a pool, see parts/row.lua, with ; between them
--
-- Invariant: writes nothing; the row is the one that submit.lua returns.

-- include time
-- include health
-- include row

local types = {}
for i = 2, #ARGV do
  types[i - 1] = 'stat:' .. ARGV[i]
end
local rows = {}
for i = 0, #KEYS / 3 - 1 do
  rows[i + 1] = row(read_pool(KEYS[i * 3 + 1], KEYS[i * 3 + 2], KEYS[i * 3 + 3], types, now,
    tonumber(ARGV[1])))
end
return {now, table.concat(rows, ';')}
