-- Copy the checkpoints of a dead letter to the task that it is about to be retried as.
--
-- KEYS  1 checkpoints of the dead letter  2 checkpoints of the new task  3 record of the new task
-- ARGV  1 seconds to keep the copy, should the new task not be submitted after all
-- Returns 1 where they were copied; 0 where there are none, or the new task exists already
--
-- Invariant: a task that exists has runs of its own, which may have resumed from these checkpoints.
-- claim.lua and dead_done.lua keep the copy for as long as its task.

local checkpoints, copy, new_record = unpack(KEYS)
local seconds = unpack(ARGV)

if redis.call('EXISTS', new_record) == 1 or redis.call('EXISTS', checkpoints) == 0 then
  return 0
end
redis.call('DEL', copy)
redis.call('COPY', checkpoints, copy)
redis.call('EXPIRE', copy, seconds)
return 1
