-- Queue the message of a task again that another broker had, and that no worker has begun with in time.
--
-- KEYS  1 task record  2 queue  3 its line  4 tasks that have left it there and did not begin
--       5 ids of tasks whose message was taken to be handed over  then the lines of all queues, and the
--       tasks that were handed over for each
-- ARGV  1 task id
-- Returns 1, or 0 where it is not missed (any more)
--
-- Invariant: of two that miss a task one queues it, and nobody does whose message is under way, or
-- waits in a queue. It may be with a worker all the same: what comes twice runs once. It goes in
-- front: it has waited.

-- include time
-- include line

local id = ARGV[1]
if redis.call('ZREM', KEYS[4], id) == 0 then
  return 0
end
local task = redis.call('HMGET', KEYS[1], 'state', 'message')
if task[1] ~= 'queued' or not task[2] then
  return 0
end
for k = 5, #KEYS do
  if redis.call('ZSCORE', KEYS[k], id) then
    return 0
  end
end
redis.call('HINCRBY', KEYS[1], 'missed', 1)
redis.call('RPUSH', KEYS[2], task[2])
stand_first(KEYS[3], id)
return 1
