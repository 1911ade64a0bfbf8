-- End a running task: write its last state and result, free its slot and lease, count its outcome
-- for the pool, and notify all who wait for it.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 pool facts  6 done channel
--       7 ledger  8 usage counters  9 reservations  10 calls in flight  11 counts of waiting tasks
--       12 dead letters  13 checkpoints
-- ARGV  1 task id  2 fence  3 state  4 seconds to keep the record  5 outcomes to keep
--       6 1 where the outcome counts for the pool, else 0  7 request type
--       8 ms in which an old outcome loses half its weight  9 reason for the dead letter, where the
--       task failed, and 10 seconds to keep its record
--       then fields and values, such as the result
-- Returns {kept, failures}: kept 0 where the lease has passed to another run and nothing was
--       written, else 1; failures the pool's in a row, 0 where this end was none
-- Moves   running -> succeeded, unverified, failed, cancelled
--
-- Invariant: one run writes an end, once. The same end sent again, because the first answer
-- was lost, is answered as kept again. The server's clock measures the seconds of a run. A cancelled
-- task, or a request that no pool could answer, says nothing about this pool. The task's reservation
-- is freed. A model call that has not reported its usage is charged its upper bound. Only a dead
-- letter keeps its checkpoints.

local record, leases, in_flight, cancelled, pool_facts, done, ledger, money, reservations,
  open_calls, waiting_counts, dead_letters, checkpoints = unpack(KEYS)
local id, fence, state, seconds_kept, outcomes_kept, counts_for_pool, request_type, half_life_ms,
  dead_reason, dead_seconds = unpack(ARGV, 1, 10)
local fields = {unpack(ARGV, 11)}

-- include time
-- include moves
-- include dead_letters
-- include health
-- include outcome
-- include occupancy
-- include windows
-- include usage_counters
-- include reservation

local newest_fence, state_before, started, agent =
  unpack(redis.call('HMGET', record, 'fence', 'state', 'started', 'agent'))
if newest_fence ~= fence or state_before ~= 'running' then
  return {newest_fence == fence and state_before == state and 1 or 0, 0}
end
local is_dead = state == 'failed'
move(record, waiting_counts, 'running', state, agent, is_dead and dead_reason or '', 'ended', now,
  unpack(fields))
redis.call('HDEL', record, 'lease_until')
if is_dead then
  bury(record, checkpoints, dead_letters, id, dead_reason, dead_seconds)
else
  redis.call('HDEL', record, 'message')
  redis.call('EXPIRE', record, seconds_kept)
  redis.call('DEL', checkpoints)
end
redis.call('ZREM', leases, id)
redis.call('SREM', in_flight, id)
redis.call('SREM', cancelled, id)
local counters = open_counters(money)
charge_open_calls(record, ledger, counters, open_calls, id, now)
free_reservation(counters, reservations, id)
close_counters(counters)
count_occupancy(pool_facts, started)
redis.call('PUBLISH', done, state)
if counts_for_pool ~= '1' then
  return {1, 0}
end
local seconds = (now - tonumber(started)) / 1000
count_outcome(pool_facts, request_type, state, seconds, now, tonumber(outcomes_kept),
  tonumber(half_life_ms))
return {1, failures_in_row(pool_facts)}
