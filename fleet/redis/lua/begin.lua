-- Begin a run that stood aside: from now on the death of its worker is a crash of the task.
--
-- KEYS  1 task record
-- ARGV  1 fence
-- Returns 1, also where this was done before, or 0 where the lease has passed to another run or the
--       task has ended
--
-- Invariant: as for every write of a run, only the newest fence may write. The run's time counts from
-- here, by the server's clock.

local record = unpack(KEYS)
local fence = unpack(ARGV)

-- include time

local newest_fence, state = unpack(redis.call('HMGET', record, 'fence', 'state'))
if newest_fence ~= fence or state ~= 'running' then
  return 0
end
if redis.call('HDEL', record, 'aside') == 1 then
  redis.call('HSET', record, 'started', now)
end
return 1
