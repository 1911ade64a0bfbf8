-- Publish a message that is no task of Fleet's to one of its queues, and wake a worker.
--
-- KEYS  1 queue  2 its wake list  3 that this message was pushed to it
-- ARGV  1 message  2 seconds for which it may be sent again
-- Returns 1, or 0 where it was there already
--
-- Invariant: the wake list holds a token while the queue has messages; a message that is sent again,
-- since its answer was lost, is there once.

-- include wake

if not redis.call('SET', KEYS[3], '1', 'NX', 'EX', ARGV[2]) then
  return 0
end
redis.call('LPUSH', KEYS[1], ARGV[1])
wake_worker(KEYS[2])
return 1
