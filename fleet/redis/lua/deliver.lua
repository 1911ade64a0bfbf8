-- Publish a delayed message whose time has come.
--
-- KEYS  1 delayed messages  2 queue  3 its wake list
-- ARGV  1 the message as it stands in the schedule  2 the message
-- Returns 1 where it was published, 0 where another process has published it before
--
-- Invariant: a message is in the schedule or in its queue at every moment, and never in both.

local deferred, queue, wake = unpack(KEYS)
local kept, message = unpack(ARGV)

-- include wake

if redis.call('ZREM', deferred, kept) == 0 then
  return 0
end
redis.call('LPUSH', queue, message)
wake_worker(wake)
return 1
