-- Take the part of the schedule whose time has come, for the caller to queue, and tell which leases
-- have ended.
--
-- KEYS  1 delayed tasks  2 parked tasks  3 delayed messages  4 leases
-- ARGV  1 most to take of each  2 ms for which they are the caller's
-- Returns {ids of delayed tasks, ids of parked tasks, delayed messages, ids of running tasks whose
--       lease has ended}, first due first
--
-- Invariant: nothing leaves the schedule here: unpark.lua and deliver.lua do that, in the step that
-- queues. What a caller took comes due again should it die, and two callers do not get the same.

-- include time

local function taken(schedule)
  local found = redis.call('ZRANGEBYSCORE', schedule, '-inf', now, 'LIMIT', 0, ARGV[1])
  for _, member in ipairs(found) do
    redis.call('ZADD', schedule, now + tonumber(ARGV[2]), member)
  end
  return found
end

local ended = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, ARGV[1])
return {taken(KEYS[1]), taken(KEYS[2]), taken(KEYS[3]), ended}
