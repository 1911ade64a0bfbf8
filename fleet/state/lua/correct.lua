-- Correct an entry of the ledger: by another entry, in the windows of the first.
--
-- KEYS  1 ledger  2 corrections  3... counters, one for each scope of the entry
-- ARGV  1 id of the entry  2 what it was charged  3 nano-dollars to add, may be under 0
--       4 a name for this very correction  5 the entry's windows
--       6... names and values of the correction's entry
-- Returns the id of the correction; '' where entry and corrections would come to less than 0
--
-- Invariant: the sum of the ledger's entries is that of every scope's counters, in each window.
-- A correction sent again is made once.

-- include counters

local made = redis.call('HGET', KEYS[2], 'once:' .. ARGV[4])
if made then
  return made
end
local before = tonumber(redis.call('HGET', KEYS[2], 'of:' .. ARGV[1]) or 0)
if ARGV[2] + before + ARGV[3] < 0 then
  return ''
end
local windows = {}
for window in string.gmatch(ARGV[5], '[^,]+') do
  windows[#windows + 1] = window
end
local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 6))
for i = 3, #KEYS do
  settle(KEYS[i], windows, tonumber(ARGV[3]), 0, 0)
end
redis.call('HINCRBY', KEYS[2], 'of:' .. ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], 'once:' .. ARGV[4], id)
return id
