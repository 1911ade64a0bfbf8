-- Drop ids from an index whose record has expired.
--
-- KEYS  1 index  then the record of each id
-- ARGV  the ids
-- Returns how many were dropped
--
-- Invariant: judged in the step that drops, so that no id is lost whose record is there.

local gone = {}
for i, id in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[i + 1]) == 0 then
    gone[#gone + 1] = id
  end
end
return #gone > 0 and redis.call('ZREM', KEYS[1], unpack(gone)) or 0
