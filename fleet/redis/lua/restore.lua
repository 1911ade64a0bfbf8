-- Put a message back that workers of a pool took and did not claim, where all of them are dead.
--
-- KEYS  1 the pool's agents  2 its unacked  3 unacked index  4 its in_flight
--       5 queue of the message  6 its wake list  7 its line
-- ARGV  1 delivery tag  2 message  3 its task, '' for a message of none  4 ms after which a silent
--       agent is dead  5 1 where the queue is the fleet's, else 0
-- Returns 1, or 0 where the pool has a live agent, whose worker does it, where somebody has renewed
--       the message, or it was done before
--
-- Invariant: a message is in its queue or in the unacked hash at every moment. It goes in front: it has
-- waited.

-- include time
-- include line
-- include wake

local overdue = now - tonumber(ARGV[4])
local renewed = redis.call('ZSCORE', KEYS[3], ARGV[1])
if redis.call('ZCOUNT', KEYS[1], '(' .. overdue, '+inf') > 0
  or not renewed or tonumber(renewed) * 1000 > overdue
  or redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then
  return 0
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('RPUSH', KEYS[5], ARGV[2])
if ARGV[5] == '0' then
  return 1
end
if ARGV[3] ~= '' then
  redis.call('SREM', KEYS[4], ARGV[3])
  stand_first(KEYS[7], ARGV[3])
end
wake_worker(KEYS[6])
return 1
