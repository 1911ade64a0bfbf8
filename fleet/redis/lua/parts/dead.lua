-- Dead letters: tasks that failed for good. They are in one sorted set by when they failed, and their
-- records are kept, message and all, so that they can be retried; what they have saved, so that the
-- retry goes on from there. Needs time.

local function bury(record, saved, dead, id, why, seconds)
  redis.call('HSET', record, 'dead', why)
  redis.call('EXPIRE', record, seconds)
  redis.call('EXPIRE', saved, seconds)
  redis.call('ZADD', dead, now, id)
end
