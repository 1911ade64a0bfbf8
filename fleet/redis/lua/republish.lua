-- Publish the message of a queued task again that is in no queue and that no worker holds.
--
-- KEYS  1 task record  2 queue  3 its wake list  4 its index  5 in_flight of the queue's pool, or of
--       any pool  6 done channel  7 usage counters  8 reservations
--       9 counts of waiting tasks  10 dead letters  11 checkpoints
-- ARGV  1 task id  2 its score in the index, as missing.lua found it  3 max times to publish again
--       4 error, as JSON, for a task whose message was lost more often  5 seconds to keep a dead letter
-- Returns 'republished', 'failed', or 'gone' where it is not missing (any more)
-- Moves   queued -> failed
--
-- Invariant: the score in the index changes with every move of the message, so of two processes that
-- found the message missing one publishes it. The message goes in front, because it has waited. A
-- message that is lost again and again is dropped by the workers that get it: its task ends, and its
-- reservation is freed.

local record, queue, wake, queue_index, in_flight, done, money, reservations, waiting_counts,
  dead_letters, checkpoints = unpack(KEYS)
local id, score, max_times, error, seconds = unpack(ARGV)

-- include time
-- include queue_index
-- include moves
-- include dead_letters
-- include usage_counters
-- include reservation
-- include wake
-- include notify

if redis.call('ZSCORE', queue_index, id) ~= score then
  return 'gone'
end
local state, message = unpack(redis.call('HMGET', record, 'state', 'message'))
if state ~= 'queued' or not message then
  redis.call('ZREM', queue_index, id)
  return 'gone'
end
if redis.call('HINCRBY', record, 'republished', 1) > tonumber(max_times) then
  redis.call('ZREM', queue_index, id)
  redis.call('SREM', in_flight, id)
  local counters = open_counters(money)
  free_reservation(counters, reservations, id)
  close_counters(counters)
  move(record, waiting_counts, 'queued', 'failed', 'reaper', 'lost', 'ended', now, 'error', error)
  bury(record, checkpoints, dead_letters, id, 'lost', seconds)
  notify_result_backend(message, queue, wake)
  redis.call('PUBLISH', done, 'failed')
  return 'failed'
end
redis.call('RPUSH', queue, message)
index_first(queue_index, id)
wake_worker(wake)
return 'republished'
