-- Keep a message that is no task of Fleet's until its time has come.
--
-- KEYS  1 delayed messages  2 that this message was kept for its queue
-- ARGV  1 the message and where it goes, see `Schedule.defer`  2 ms to wait
--       3 seconds for which it may be sent again
-- Returns 1, or 0 where it was kept already
--
-- Invariant: the server's clock says when it is due, whatever the clocks of its publisher and of
-- its worker say. A message that is sent again, since its answer was lost, is kept once, also where
-- its time has come meanwhile.

-- include time

if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[3]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return 1
