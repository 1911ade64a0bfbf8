-- Dead letters: tasks that failed for good. They are in one sorted set by when they failed, and their
-- records are kept, message and all, so that they can be retried. Needs time.

local function bury(record, dead, id, why, seconds)
  redis.call('HSET', record, 'dead', why)
  redis.call('EXPIRE', record, seconds)
  redis.call('ZADD', dead, now, id)
end
