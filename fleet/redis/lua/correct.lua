-- Correct an entry of the ledger: by another entry, in the windows of the first.
--
-- KEYS  1 ledger  2 corrections  3 money
-- ARGV  1 id of the entry  2 what it was charged  3 nano-dollars to add, may be under 0
--       4 a name for this very correction  5 the entry's windows
--       6 tenant, 7 agent type, 8 model, 9 the minute since 1970 that it was written in
--       10... names and values of the correction's entry
-- Returns the id of the correction; '' where entry and corrections would come to less than 0
--
-- Invariant: the sum of the ledger's entries is that of every scope's counters, in each window.
-- A correction sent again is made once.

-- include time
-- include windows
-- include book

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
local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 10))
local book = open_book(KEYS[3])
settle(book, scopes_of({ARGV[6], ARGV[7], ARGV[8]}), windows, math.floor(now / 60000),
  tonumber(ARGV[9]), {tonumber(ARGV[3]), 0, 0})
close_book(book)
redis.call('HINCRBY', KEYS[2], 'of:' .. ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], 'once:' .. ARGV[4], id)
return id
