-- Drop the ids from an index whose record has expired, and the checkpoints of these tasks.
--
-- KEYS  1 index  then for each id: its record, its checkpoints
-- ARGV  the ids
-- Returns how many were dropped
--
-- Invariant: the step that drops also looks at the record, so no id is lost whose record exists.

-- include groups

local index = unpack(KEYS, 1, 1)
local next_task = groups(KEYS, 2, 2)
local ids = ARGV

local gone = {}
for _, id in ipairs(ids) do
  local record, checkpoints = next_task()
  if redis.call('EXISTS', record) == 0 then
    gone[#gone + 1] = id
    redis.call('DEL', checkpoints)
  end
end
return #gone > 0 and redis.call('ZREM', index, unpack(gone)) or 0
