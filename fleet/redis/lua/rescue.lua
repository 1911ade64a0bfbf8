-- Move the waiting messages of a pool that takes none to the overflow queue: a pool without a live
-- agent, or one in maintenance.
--
-- KEYS  1 the pool's agents  2 its in_flight  3 its queue  4 overflow queue  5 its wake list
--       6 pool facts  7 index of the pool's queue  8 index of the overflow queue
-- ARGV  1 ms after which a silent agent is dead  2 max messages to move
-- Returns the ids of the tasks that were moved
--
-- Invariant: a message is in one of the two lists at every moment, oldest first in both.

local agents, in_flight, queue, overflow_queue, overflow_wake, pool_facts, queue_index,
  overflow_index = unpack(KEYS)
local silence_ms, max = unpack(ARGV)

-- include time
-- include queue_index
-- include message
-- include wake

if redis.call('ZCOUNT', agents, '(' .. (now - tonumber(silence_ms)), '+inf') > 0
  and redis.call('HEXISTS', pool_facts, 'maintenance') == 0 then
  return {}
end
local moved, any = {}, false
for _ = 1, tonumber(max) do
  local message = redis.call('RPOPLPUSH', queue, overflow_queue)
  if not message then
    break
  end
  any = true
  local id = task_of(message)
  if id then
    moved[#moved + 1] = id
    redis.call('SREM', in_flight, id)
    redis.call('ZREM', queue_index, id)
    index_last(overflow_index, id)
  end
end
if any then
  wake_worker(overflow_wake)
end
return moved
