-- Correct an entry of the ledger: by another entry, in the windows of the first.
--
-- KEYS  1 ledger  2 corrections  3 usage counters
-- ARGV  1 id of the entry  2 its charge  3 nano-dollars to add, may be under 0
--       4 a name for this very correction  5 the entry's windows
--       6 tenant, 7 agent type, 8 model, 9 the minute since 1970 that the entry was written in
--       10... names and values of the correction's entry
-- Returns the id of the correction; '' where entry and corrections would come to less than 0
--
-- Invariant: the sum of the ledger's entries is that of every scope's counters, in each window.
-- A correction that is sent again is made once.

local ledger, corrections, money = unpack(KEYS)
local entry, charge, amount, name, entry_windows, tenant, agent_type, model, entry_minute =
  unpack(ARGV, 1, 9)
local correction = {unpack(ARGV, 10)}

-- include time
-- include windows
-- include usage_counters

local made = redis.call('HGET', corrections, 'once:' .. name)
if made then
  return made
end
local before = tonumber(redis.call('HGET', corrections, 'of:' .. entry) or 0)
if charge + before + amount < 0 then
  return ''
end
local windows = {}
for window in string.gmatch(entry_windows, '[^,]+') do
  windows[#windows + 1] = window
end
local id = redis.call('XADD', ledger, '*', unpack(correction))
local counters = open_counters(money)
settle(counters, scopes_of({tenant, agent_type, model}), windows, math.floor(now / 60000),
  tonumber(entry_minute), {tonumber(amount), 0, 0})
close_counters(counters)
redis.call('HINCRBY', corrections, 'of:' .. entry, amount)
redis.call('HSET', corrections, 'once:' .. name, id)
return id
