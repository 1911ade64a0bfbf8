-- Take the due part of the schedule, for the caller to queue, and list the leases that have ended.
--
-- KEYS  1 delayed tasks  2 tasks on hold  3 delayed messages  4 leases
-- ARGV  1 max to take of each  2 ms for which they are the caller's
-- Returns {ids of delayed tasks, ids of tasks on hold, delayed messages, ids of running tasks whose
--       lease has ended}, first due first
--
-- Invariant: nothing leaves the schedule here. release_task.lua and deliver.lua remove it, in the step
-- that queues it. Anything that a caller took comes due again should the caller die, and two callers
-- do not get the same.

local delayed, on_hold, deferred, leases = unpack(KEYS)
local max, taken_ms = unpack(ARGV)

-- include time

local function taken(schedule)
  local found = redis.call('ZRANGEBYSCORE', schedule, '-inf', now, 'LIMIT', 0, max)
  for _, member in ipairs(found) do
    redis.call('ZADD', schedule, now + tonumber(taken_ms), member)
  end
  return found
end

local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, max)
return {taken(delayed), taken(on_hold), taken(deferred), ended}
