-- Keep a message that is no task of Fleet's until its time has come.
--
-- KEYS  1 delayed messages
-- ARGV  1 the message and where it goes, see `Schedule.defer`  2 ms to wait
-- Returns 1
--
-- Invariant: the server's clock says when it is due, whatever the clocks of its publisher and of
-- its worker say.

-- include time

redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return 1
