-- Drop ids from an index whose record has expired, and what such a task may have saved.
--
-- KEYS  1 index  then for each id its record, and what is saved
-- ARGV  the ids
-- Returns how many were dropped
--
-- Invariant: judged in the step that drops, so that no id is lost whose record is there.

local gone = {}
for i, id in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[2 * i]) == 0 then
    gone[#gone + 1] = id
    redis.call('DEL', KEYS[2 * i + 1])
  end
end
return #gone > 0 and redis.call('ZREM', KEYS[1], unpack(gone)) or 0
