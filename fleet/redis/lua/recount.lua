-- Drop the counts of waiting tasks while no task waits.
--
-- KEYS  1 counts of waiting tasks  then all places in which a task waits: delayed tasks, tasks on hold,
--       the indexes of the queues, the slots of the pools
-- ARGV  none
-- Returns 1 where there were any, else 0
--
-- Invariant: every move counts (parts/moves.lua). So a count that is left while all places are empty
-- belongs to records that somebody deleted, or a server evicted. A running task holds a slot: the
-- counts are not looked at then, and the next moment is soon enough.

-- include groups

local waiting_counts = unpack(KEYS, 1, 1)
local places = groups(KEYS, 2, 1)

for place in places do
  if redis.call('EXISTS', place) == 1 then
    return 0
  end
end
return redis.call('DEL', waiting_counts)
