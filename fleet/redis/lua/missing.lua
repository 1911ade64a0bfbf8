-- Find the tasks that stand in a queue's line and whose message is not in the queue.
--
-- KEYS  1 queue  2 its line
-- ARGV  1 most to find
-- Returns {id, its number in the line, id, number, ...}, who came first first
--
-- Invariant: a line is in the order of its queue (parts/line.lua), for whatever moves a message moves
-- both. So whoever has a lower number than those that are taken next is not there, and no queue is
-- searched. Nothing is written, and nobody is found who is there.

-- include message

local horizon
for _, message in ipairs(redis.call('LRANGE', KEYS[1], -20, -1)) do
  local id = task_of(message)
  local number = id and redis.call('ZSCORE', KEYS[2], id)
  if number and (not horizon or tonumber(number) < horizon) then
    horizon = tonumber(number)
  end
end
if not horizon and redis.call('EXISTS', KEYS[1]) == 1 then
  return {}
end
local below = horizon and '(' .. string.format('%.0f', horizon) or '+inf'
return redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', below, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
