-- Dead letters: tasks that failed for good, in one sorted set by the time of their failure. Their
-- records are kept with the message, so that they can be retried. Their checkpoints are kept too, so
-- that the retry resumes there. Needs time.

local function bury(record, checkpoints, dead_letters, id, reason, seconds)
  redis.call('HSET', record, 'dead', reason)
  redis.call('EXPIRE', record, seconds)
  redis.call('EXPIRE', checkpoints, seconds)
  redis.call('ZADD', dead_letters, now, id)
end
