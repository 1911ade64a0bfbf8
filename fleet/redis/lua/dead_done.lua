-- Take a task off the dead letters: it was retried as another one, or nobody wants it any more.
--
-- KEYS  1 task record  2 dead letters  3 record of the task that it was retried as, or its own again
--       4 what is saved  5 what the one it was retried as has saved, or its own again
-- ARGV  1 task id  2 seconds to keep its record  3 id of the task that it was retried as, '' for none
-- Returns 1 where it was a dead letter, else 0
--
-- Invariant: each of the two tasks names the other. A record that has expired is not begun anew.
-- What it has saved goes; the task that it was retried as keeps its copy while it has not ended.

local known = redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[4])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HDEL', KEYS[1], 'message')
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], 'retried_as', ARGV[3])
  end
end
if ARGV[3] ~= '' and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HSET', KEYS[3], 'retry_of', ARGV[1])
  if redis.call('TTL', KEYS[3]) == -1 then
    redis.call('PERSIST', KEYS[5])
  end
end
return known
