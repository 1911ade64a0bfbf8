-- Drop the counts of waiting tasks while nobody waits.
--
-- KEYS  1 how many tasks wait  then all places in which one does: delayed and parked tasks, the lines
--       of the queues, the slots of the pools
-- ARGV  none
-- Returns 1 where there were any, else 0
--
-- Invariant: every move counts (parts/moves.lua), so what is counted while all places are empty is of
-- records that somebody deleted, or a server evicted. A task that runs holds a slot: that is no moment
-- to look, and the next one is soon enough.

for k = 2, #KEYS do
  if redis.call('EXISTS', KEYS[k]) == 1 then
    return 0
  end
end
return redis.call('DEL', KEYS[1])
