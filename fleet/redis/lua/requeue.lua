-- Give a task whose lease has ended to the next worker, or end it after too many crashes.
--
-- KEYS  1 task record  2 leases  3 in_flight of the pool it ran in  4 overflow queue
--       5 its wake list  6 done channel  7 facts of the pool it ran in
--       8 ledger  9 usage counters  10 reservations  11 calls in flight  12 index of the overflow queue
--       13 counts of waiting tasks  14 dead letters  15 cancelled
--       16 checkpoints  17 until when expiry is on hold
-- ARGV  1 task id  2 fence that was seen  3 max crashes  4 seconds to keep a dead letter
--       5 error, as JSON, after too many crashes  6 outcomes to keep  7 request type
--       8 ms in which an old outcome loses half its weight  9 error, as JSON, where the record has no
--       message to run the task again with  10 expected time, 11 tolerance in ms, 12 ms to hold expiry
--       for: the arguments of clock.lua
-- Returns 'requeued', 'unwanted' where it was requeued and somebody wants it cancelled, 'failed', or
--       'alive' where the lease was renewed, the task has ended or expiry is on hold
-- Moves   running -> queued, failed
--
-- Invariant: the server's clock and the fence decide, so two callers, or a caller
-- and a worker that comes back, cannot both win. The run that nobody ended counts as a failure
-- of its pool, once: every run that began is counted as ended, whichever process died. A run that
-- stood aside had not begun: it is no crash of the task, and says nothing about the pool. The model
-- calls in flight are charged their upper bounds, as uncertain. The rest of the reservation stays for
-- the next run, and is freed where there is none. The result backend is notified of an end.

local record, leases, in_flight, overflow_queue, overflow_wake, done, pool_facts, ledger, money,
  reservations, open_calls, overflow_index, waiting_counts, dead_letters, cancelled, checkpoints,
  expiry_hold = unpack(KEYS)
local id, fence, max_crashes, dead_seconds, crash_error, outcomes_kept, request_type, half_life_ms,
  no_message_error, expected_ms, tolerance_ms, hold_ms = unpack(ARGV)

-- include time
-- include clock
-- include queue_index
-- include moves
-- include dead_letters
-- include health
-- include outcome
-- include occupancy
-- include windows
-- include usage_counters
-- include reservation
-- include wake
-- include notify

local state, newest_fence, lease_until, message, started =
  unpack(redis.call('HMGET', record, 'state', 'fence', 'lease_until', 'message', 'started'))
if state ~= 'running' then
  redis.call('ZREM', leases, id)
  return 'alive'
end
if newest_fence ~= fence or tonumber(lease_until) > now then
  return 'alive'
end
if clock_step(expected_ms, tolerance_ms) ~= 0 then
  hold_expiry(expiry_hold, hold_ms)
end
if expiry_is_held(expiry_hold, hold_ms) then
  return 'alive'
end
redis.call('HINCRBY', record, 'fence', 1)
redis.call('ZREM', leases, id)
redis.call('SREM', in_flight, id)
count_occupancy(pool_facts, started)
local counters = open_counters(money)
charge_open_calls(record, ledger, counters, open_calls, id, now)
local crashes, reason = 0, 'it stood aside when its lease ended'
if redis.call('HDEL', record, 'aside') == 0 then
  count_outcome(pool_facts, request_type, 'failed', (now - tonumber(started)) / 1000, now,
    tonumber(outcomes_kept), tonumber(half_life_ms))
  crashes = redis.call('HINCRBY', record, 'crashes', 1)
  reason = 'crash ' .. crashes .. ': its lease ended'
end
if crashes >= tonumber(max_crashes) or not message then
  free_reservation(counters, reservations, id)
  close_counters(counters)
  move(record, waiting_counts, 'running', 'failed', 'reaper', reason, 'ended', now,
    'error', message and crash_error or no_message_error)
  redis.call('HDEL', record, 'lease_until')
  bury(record, checkpoints, dead_letters, id, 'crashes', dead_seconds)
  redis.call('SREM', cancelled, id)
  notify_result_backend(message, overflow_queue, overflow_wake)
  redis.call('PUBLISH', done, 'failed')
  return 'failed'
end
close_counters(counters)
move(record, waiting_counts, 'running', 'queued', 'reaper', reason, 'pool', '')
redis.call('HDEL', record, 'lease_until')
-- In front, because it has waited; behind all others where one more crash would be the last.
if crashes < tonumber(max_crashes) - 1 then
  redis.call('RPUSH', overflow_queue, message)
  index_first(overflow_index, id)
else
  redis.call('LPUSH', overflow_queue, message)
  index_last(overflow_index, id)
end
wake_worker(overflow_wake)
return redis.call('SISMEMBER', cancelled, id) == 1 and 'unwanted' or 'requeued'
