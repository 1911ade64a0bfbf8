-- Find the tasks that stand in a queue's index and whose message is not in the queue.
--
-- KEYS  1 queue  2 its index
-- ARGV  1 max to find
-- Returns {id, its score in the index, id, score, ...}, lowest score first
--
-- Invariant: an index is in the order of its queue (parts/queue_index.lua), because every move of a
-- message changes both. So a task with a lower score than the next messages is not in the queue, and
-- no queue is searched. Nothing is written, and no task is found whose message is there.

local queue, queue_index = unpack(KEYS)
local max = unpack(ARGV)

-- include message

local horizon
for _, message in ipairs(redis.call('LRANGE', queue, -20, -1)) do
  local id = task_of(message)
  local score = id and redis.call('ZSCORE', queue_index, id)
  if score and (not horizon or tonumber(score) < horizon) then
    horizon = tonumber(score)
  end
end
if not horizon and redis.call('EXISTS', queue) == 1 then
  return {}
end
local below = horizon and '(' .. string.format('%.0f', horizon) or '+inf'
return redis.call('ZRANGEBYSCORE', queue_index, '-inf', below, 'WITHSCORES', 'LIMIT', 0, max)
