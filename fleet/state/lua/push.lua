-- Publish a message that is no task of Fleet's to one of its queues, and wake a worker.
--
-- KEYS  1 queue  2 its wake list
-- ARGV  1 message
-- Returns 1
--
-- Invariant: the wake list holds a token while the queue has messages.

redis.call('LPUSH', KEYS[1], ARGV[1])
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[2], '1')
end
return 1
