-- End a delayed task whose time has come and whose cost fits no limit, where the policy refuses such
-- tasks.
--
-- KEYS  1 task record  2 delayed tasks  3 done channel  4 counts of waiting tasks  5 dead letters
--       6 checkpoints  7 queue for its message  8 its wake list
-- ARGV  1 task id  2 error, as JSON  3 seconds to keep a dead letter
-- Returns 1 where it was refused, 0 where it is not delayed (any more)
-- Moves   delayed -> failed
--
-- Invariant: a delayed task holds no money and no slot, and is in no queue: nothing has to be freed.
-- Its message stays in its record, so that it can be retried, and the result backend is notified.

local record, delayed, done, waiting_counts, dead_letters, checkpoints, queue, wake = unpack(KEYS)
local id, error, seconds = unpack(ARGV)

-- include time
-- include moves
-- include dead_letters
-- include wake
-- include notify

redis.call('ZREM', delayed, id)
if redis.call('HGET', record, 'state') ~= 'delayed' then
  return 0
end
move(record, waiting_counts, 'delayed', 'failed', 'schedule', 'permanent', 'ended', now,
  'error', error)
bury(record, checkpoints, dead_letters, id, 'permanent', seconds)
notify_result_backend(redis.call('HGET', record, 'message'), queue, wake)
redis.call('PUBLISH', done, 'failed')
return 1
