-- Publish a message that is no task of Fleet's to one of its queues, and wake a worker.
--
-- KEYS  1 queue  2 its wake list  3 marker that this message was pushed to it
-- ARGV  1 message  2 seconds for which it may be sent again
-- Returns 1, or 0 where it was there already
--
-- Invariant: the wake list holds a token while the queue has messages. A message that is sent again,
-- because its answer was lost, is there once.

local queue, wake, once = unpack(KEYS)
local message, seconds = unpack(ARGV)

-- include wake

if not redis.call('SET', once, '1', 'NX', 'EX', seconds) then
  return 0
end
redis.call('LPUSH', queue, message)
wake_worker(wake)
return 1
