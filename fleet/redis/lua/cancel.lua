-- Cancel a task: at once where it waits, by telling its worker where it runs.
--
-- KEYS  1 task record  2 cancelled  3 in_flight of the pool that holds its slot  4 done channel
--       5 tasks on hold  6 usage counters  7 reservations  8 delayed tasks  9 counts of waiting tasks
--       10 checkpoints  11 overflow queue  12 its wake list
-- ARGV  1 task id  2 the pool that key 3 belongs to, '' for none  3 seconds to keep the record
--       4 actor  5 reason, '' for none  6 1 where a running task is to stop, else 0
-- Returns the state before: 'queued', 'parked' and 'delayed' were cancelled, 'running' was told to
--         stop, any other had ended; 'moved' where the task changed pools meanwhile (call again);
--         'unknown'
-- Moves   queued, delayed, parked -> cancelled
--
-- Invariant: a cancelled task holds no slot and no money, and has no checkpoints. Its message stays in
-- its queue, and the worker that fetches it notifies the result backend. The message of a task in no
-- queue is put into one for that purpose.

local record, cancelled, in_flight, done, on_hold, money, reservations, delayed, waiting_counts,
  checkpoints, queue, wake = unpack(KEYS)
local id, pool, seconds, actor, reason, stops_running = unpack(ARGV)

-- include time
-- include moves
-- include usage_counters
-- include reservation
-- include wake
-- include notify

local state = redis.call('HGET', record, 'state')
if not state then
  return 'unknown'
end
if state == 'queued' or state == 'parked' or state == 'delayed' then
  if (redis.call('HGET', record, 'pool') or '') ~= pool then
    return 'moved'
  end
  move(record, waiting_counts, state, 'cancelled', actor, reason, 'ended', now)
  if state ~= 'queued' then
    notify_result_backend(redis.call('HGET', record, 'message'), queue, wake)
  end
  redis.call('HDEL', record, 'message')
  redis.call('EXPIRE', record, seconds)
  redis.call('DEL', checkpoints)
  if pool ~= '' then
    redis.call('SREM', in_flight, id)
  end
  redis.call('ZREM', on_hold, id)
  redis.call('ZREM', delayed, id)
  redis.call('SREM', cancelled, id)
  local counters = open_counters(money)
  free_reservation(counters, reservations, id)
  close_counters(counters)
  redis.call('PUBLISH', done, 'cancelled')
elseif state == 'running' and stops_running == '1' then
  redis.call('SADD', cancelled, id)
end
return state
