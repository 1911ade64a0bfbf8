-- Take a task off the dead letters: it was retried as another one, or was dropped.
--
-- KEYS  1 task record  2 dead letters  3 record of the task that it was retried as, or its own again
--       4 its checkpoints  5 checkpoints of the task that it was retried as, or its own again
-- ARGV  1 task id  2 seconds to keep its record  3 id of the task that it was retried as, '' for none
-- Returns 1 where it was a dead letter, else 0
--
-- Invariant: each of the two tasks names the other. A record that has expired is not begun anew.
-- The task's checkpoints are deleted. The task that it was retried as keeps its copy while it has not
-- ended.

local record, dead_letters, new_record, checkpoints, new_checkpoints = unpack(KEYS)
local id, seconds, retried_as = unpack(ARGV)

local known = redis.call('ZREM', dead_letters, id)
redis.call('DEL', checkpoints)
if redis.call('EXISTS', record) == 1 then
  redis.call('HDEL', record, 'message')
  redis.call('EXPIRE', record, seconds)
  if retried_as ~= '' then
    redis.call('HSET', record, 'retried_as', retried_as)
  end
end
if retried_as ~= '' and redis.call('EXISTS', new_record) == 1 then
  redis.call('HSET', new_record, 'retry_of', id)
  if redis.call('TTL', new_record) == -1 then
    redis.call('PERSIST', new_checkpoints)
  end
end
return known
