-- Keep a message that is no task of Fleet's until its time has come.
--
-- KEYS  1 delayed messages  2 marker that this message was kept for its queue
-- ARGV  1 the message and its destination, see fleet/tasks/schedule_store.py  2 ms to wait
--       3 seconds for which the message may be sent again
-- Returns 1, or 0 where it was kept already
--
-- Invariant: the server's clock decides when the message is due, whatever the clocks of its publisher
-- and of its worker show. A message that is sent again, because its answer was lost, is kept once,
-- even if its time has come meanwhile.

local deferred, once = unpack(KEYS)
local kept, wait_ms, seconds = unpack(ARGV)

-- include time

if not redis.call('SET', once, '1', 'NX', 'EX', seconds) then
  return 0
end
redis.call('ZADD', deferred, now + tonumber(wait_ms), kept)
return 1
