-- Read the counts of each pool for the router.
--
-- KEYS  for each pool: facts, agents, in_flight
-- ARGV  1 ms after which a silent agent is dead  then the request types to report
-- Returns {ms since 1970, counts}: those of each pool, see parts/pool_counts.lua, with ; between
--
-- Invariant: writes nothing. The counts are those that submit.lua returns.

-- include groups

local pools = groups(KEYS, 1, 3)
local silence_ms = unpack(ARGV, 1, 1)
local request_types = groups(ARGV, 2, 1)

-- include time
-- include health
-- include pool_counts

silence_ms = tonumber(silence_ms)
local types = {}
for request_type in request_types do
  types[#types + 1] = 'stat:' .. request_type
end
local counts = {}
for facts, agents, in_flight in pools do
  counts[#counts + 1] =
    packed_counts(read_pool(facts, agents, in_flight, types, now, silence_ms))
end
return {now, table.concat(counts, ';')}
