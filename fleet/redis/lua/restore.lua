-- Put a message back that workers of a pool took and did not claim, where all of them are dead.
--
-- KEYS  1 the pool's agents  2 its unacked  3 unacked index  4 its in_flight
--       5 queue of the message  6 its wake list  7 its index
-- ARGV  1 delivery tag  2 message  3 its task, '' for a message of none  4 ms after which a silent
--       agent is dead  5 1 where the queue is the fleet's, else 0
-- Returns 1; 0 where the pool has a live agent, whose worker puts the message back, where somebody has
--       renewed the message, or where this was done before
--
-- Invariant: a message is in its queue or in the unacked hash at every moment. It goes in front,
-- because it has waited.

local agents, unacked, unacked_index, in_flight, queue, wake, queue_index = unpack(KEYS)
local tag, message, id, silence_ms, is_fleets = unpack(ARGV)

-- include time
-- include queue_index
-- include wake

local overdue = now - tonumber(silence_ms)
local renewed = redis.call('ZSCORE', unacked_index, tag)
if redis.call('ZCOUNT', agents, '(' .. overdue, '+inf') > 0
  or not renewed or tonumber(renewed) * 1000 > overdue
  or redis.call('HDEL', unacked, tag) == 0 then
  return 0
end
redis.call('ZREM', unacked_index, tag)
redis.call('RPUSH', queue, message)
if is_fleets == '0' then
  return 1
end
if id ~= '' then
  redis.call('SREM', in_flight, id)
  index_first(queue_index, id)
end
wake_worker(wake)
return 1
