-- Drop the oldest entries of the audit, up to one of them, and note where it begins now.
--
-- KEYS  1 audit  2 its head
-- ARGV  1 id of the last entry to drop  2 its number  3 its hash
-- Returns 1; 0 where the stream has no such entry
--
-- Invariant: `trimmed_seq` and `trimmed_hash` of the head name the last entry that was dropped, to which
-- the first one of the stream is chained. No entry is dropped in another way.

local audit, head = unpack(KEYS)
local id, seq, hash = unpack(ARGV)

local found = redis.call('XRANGE', audit, id, id)[1]
if not found then
  return 0
end
local entry = {}
for place = 1, #found[2], 2 do
  entry[found[2][place]] = found[2][place + 1]
end
if entry.seq ~= seq or entry.hash ~= hash then
  return 0
end
redis.call('HSET', head, 'trimmed_seq', seq, 'trimmed_hash', hash)
redis.call('XTRIM', audit, 'MINID', id)
redis.call('XDEL', audit, id)
return 1
