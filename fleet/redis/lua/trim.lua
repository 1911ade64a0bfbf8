-- Let go of the ledger's oldest entries, once a file of the archive holds them.
--
-- KEYS  1 ledger  2 archives  3 cursor of the roll-ups
-- ARGV  1 name of the file  2 id of its first entry  3 id of its last one
-- Returns 1, also where the file was noted before; 0 where the stream does not begin with the first
--         entry, has no such last one, or is not rolled up so far
--
-- Invariant: every entry is in the stream or in exactly one of the files that are noted.

local function parts(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end

if redis.call('LINDEX', KEYS[2], -1) == ARGV[1] then
  return 1
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local last = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if not first or first[1] ~= ARGV[2] or not last then
  return 0
end
local ms, number = parts(ARGV[3])
local rolled_ms, rolled_number = parts(redis.call('GET', KEYS[3]) or '0-0')
if rolled_ms < ms or rolled_ms == ms and rolled_number < number then
  return 0
end
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-%.0f', ms, number + 1))
redis.call('RPUSH', KEYS[2], ARGV[1])
return 1
