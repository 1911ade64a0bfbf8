-- Begin a run that stood aside: from now on its worker's death is a crash of the task.
--
-- KEYS  1 task record
-- ARGV  1 fence
-- Returns 1, also where this was done before, or 0 where the lease has passed to another run or the
--       task has ended
--
-- Invariant: as for every write of a run, only the newest fence may. The run counts from here, by the
-- server's clock.

-- include time

local seen = redis.call('HMGET', KEYS[1], 'fence', 'state')
if seen[1] ~= ARGV[1] or seen[2] ~= 'running' then
  return 0
end
if redis.call('HDEL', KEYS[1], 'aside') == 1 then
  redis.call('HSET', KEYS[1], 'started', now)
end
return 1
