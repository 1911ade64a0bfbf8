-- Put a task on hold whose run ended in an error that may pass with time: until it is tried again the
-- task takes no slot, no worker and no money.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 tasks on hold  6 ledger  7 usage counters
--       8 reservations  9 calls in flight  10 counts of waiting tasks  11 pool facts
-- ARGV  1 task id  2 fence  3 error, as JSON  4 its class  5 ms to wait  6 outcomes to keep  7 1 where
--       the error counts for the pool, else 0  8 request type  9 ms in which an old outcome
--       loses half its weight
-- Returns {status, failures}: status 'parked', also where this was done before; 'unwanted' where it
--       was put on hold and somebody wants it cancelled; 'no_message' where its record has no message
--       to queue it again with; 'lost' where the lease has passed to another run. In the last two
--       nothing was written. failures are the pool's in a row
-- Moves   running -> parked
--
-- Invariant: as for every write of a run, only the newest fence may write. Everything that the run held
-- is freed: a model call that has not reported its usage is charged its upper bound. release_task.lua
-- holds the money anew, and not before `retry_at`, by the server's clock.

local record, leases, in_flight, cancelled, on_hold, ledger, money, reservations, open_calls,
  waiting_counts, pool_facts = unpack(KEYS)
local id, fence, error, error_class, wait_ms, outcomes_kept, counts_for_pool, request_type,
  half_life_ms = unpack(ARGV)

-- include time
-- include moves
-- include health
-- include outcome
-- include occupancy
-- include provider
-- include windows
-- include usage_counters
-- include reservation

local function status()
  return redis.call('SISMEMBER', cancelled, id) == 1 and 'unwanted' or 'parked'
end
local newest_fence, state, message, agent, started =
  unpack(redis.call('HMGET', record, 'fence', 'state', 'message', 'agent', 'started'))
if newest_fence == fence and state == 'parked' then
  return {status(), 0}
end
if newest_fence ~= fence or state ~= 'running' then
  return {'lost', 0}
end
if not message then
  return {'no_message', 0}
end
local counters = open_counters(money)
charge_open_calls(record, ledger, counters, open_calls, id, now)
free_reservation(counters, reservations, id)
close_counters(counters)
local at = string.format('%.0f', now + tonumber(wait_ms))
local reason = 'retry ' .. redis.call('HINCRBY', record, 'retries', 1) .. ': ' .. error_class
redis.call('HSETNX', record, 'retrying_since', now)
move(record, waiting_counts, 'running', 'parked', agent, reason, 'pool', '', 'retry_at', at,
  'parked_until', at, 'retry_error', error)
redis.call('HDEL', record, 'lease_until')
redis.call('ZREM', leases, id)
redis.call('SREM', in_flight, id)
redis.call('ZADD', on_hold, at, id)
count_occupancy(pool_facts, started)
if error_class == 'RateLimited' then
  note_refusal(pool_facts, redis.call('SCARD', in_flight) + 1)
end
if counts_for_pool ~= '1' then
  return {status(), 0}
end
local seconds = (now - tonumber(started)) / 1000
count_outcome(pool_facts, request_type, 'failed', seconds, now, tonumber(outcomes_kept),
  tonumber(half_life_ms))
return {status(), failures_in_row(pool_facts)}
