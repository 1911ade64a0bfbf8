-- Drop messages that another broker has confirmed, and note that their tasks wait there.
--
-- KEYS  1 ids of tasks whose message was taken, by when, us  2 these messages  then for each message:
--       the tasks that were handed over for its queue
-- ARGV  for each message: its task, when it was taken, us
-- Returns how many were dropped
--
-- Invariant: whoever took a message drops that alone. Where it took longer than it may, somebody else
-- has taken the message again, or a newer one of the same task: that waits until its own taker
-- has confirmed it.

-- include time

local dropped = 0
local came = tonumber(time[1]) * 1000000 + tonumber(time[2])
for k = 3, #KEYS do
  local id, moment = ARGV[2 * k - 5], ARGV[2 * k - 4]
  local found = redis.call('ZSCORE', KEYS[1], id)
  if found and string.format('%.0f', tonumber(found)) == moment then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
    redis.call('ZADD', KEYS[k], string.format('%.0f', came), id)
    came = came + 1
    dropped = dropped + 1
  end
end
return dropped
