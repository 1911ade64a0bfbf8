-- Copy what a dead letter has saved to the task that it is about to be retried as.
--
-- KEYS  1 what the dead letter has saved  2 what the new task has saved  3 record of the new task
-- ARGV  1 seconds to keep the copy, should the new task not be submitted after all
-- Returns 1 where it was copied; 0 where nothing is saved, or the new task is there already
--
-- Invariant: a task that is there has runs of its own, which may have gone on from here. claim.lua
-- and dead_done.lua keep the copy for as long as its task.

if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
redis.call('DEL', KEYS[2])
redis.call('COPY', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
