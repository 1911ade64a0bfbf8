-- Drop the ledger's oldest entries, once a file of the archive holds them.
--
-- KEYS  1 ledger  2 archives  3 cursor of the roll-ups
-- ARGV  1 name of the file  2 id of its first entry  3 id of its last one
-- Returns 1, also where the file was noted before; 0 where the stream does not begin with the first
--         entry, does not have the last one, or is not rolled up to the last one
--
-- Invariant: every entry is in the stream or in exactly one of the files that are noted.

local ledger, archives, cursor = unpack(KEYS)
local file, first_id, last_id = unpack(ARGV)

local function parts(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end

if redis.call('LINDEX', archives, -1) == file then
  return 1
end
local first = redis.call('XRANGE', ledger, '-', '+', 'COUNT', 1)[1]
local last = redis.call('XRANGE', ledger, last_id, last_id)[1]
if not first or first[1] ~= first_id or not last then
  return 0
end
local ms, number = parts(last_id)
local rolled_ms, rolled_number = parts(redis.call('GET', cursor) or '0-0')
if rolled_ms < ms or rolled_ms == ms and rolled_number < number then
  return 0
end
redis.call('XTRIM', ledger, 'MINID', string.format('%.0f-%.0f', ms, number + 1))
redis.call('RPUSH', archives, file)
return 1
