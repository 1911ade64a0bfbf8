-- Move the waiting messages of a pool that takes none to the overflow queue: one without a live
-- agent, or one in maintenance.
--
-- KEYS  1 the pool's agents  2 its in_flight  3 its queue  4 overflow queue  5 its wake list
--       6 pool facts  7 line of its queue  8 line of the overflow queue
-- ARGV  1 ms after which a silent agent is dead  2 most messages to move
-- Returns the ids of the tasks that were moved
--
-- Invariant: a message is in one of the two lists at every moment, oldest first in both.

-- include time
-- include line
-- include message
-- include wake

if redis.call('ZCOUNT', KEYS[1], '(' .. (now - tonumber(ARGV[1])), '+inf') > 0
  and redis.call('HEXISTS', KEYS[6], 'maintenance') == 0 then
  return {}
end
local moved, any = {}, false
for _ = 1, tonumber(ARGV[2]) do
  local message = redis.call('RPOPLPUSH', KEYS[3], KEYS[4])
  if not message then
    break
  end
  any = true
  local id = task_of(message)
  if id then
    moved[#moved + 1] = id
    redis.call('SREM', KEYS[2], id)
    redis.call('ZREM', KEYS[7], id)
    stand_last(KEYS[8], id)
  end
end
if any then
  wake_worker(KEYS[5])
end
return moved
