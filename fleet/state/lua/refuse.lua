-- End a delayed task whose time has come and whose cost fits no limit, where the policy says to
-- refuse such tasks.
--
-- KEYS  1 task record  2 delayed tasks  3 done channel
-- ARGV  1 task id  2 error, as JSON  3 seconds to keep the record
-- Returns 1 where it was refused, 0 where it is not delayed (any more)
--
-- Invariant: a delayed task holds no money, no slot and no message: there is nothing to give back.

-- include time

redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HGET', KEYS[1], 'state') ~= 'delayed' then
  return 0
end
redis.call('HSET', KEYS[1], 'state', 'failed', 'ended', now, 'error', ARGV[2])
redis.call('HDEL', KEYS[1], 'message')
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', KEYS[3], 'failed')
return 1
