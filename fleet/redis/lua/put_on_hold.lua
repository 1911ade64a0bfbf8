-- Put a running task on hold whose next model call does not fit a limit: until the call may fit, the
-- task takes no slot, no worker and no money.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 tasks on hold  6 ledger  7 usage counters
--       8 reservations  9 calls in flight  10 counts of waiting tasks
--       11 pool facts
-- ARGV  1 task id  2 fence  3 refusal, see parts/limits.lua  4 ms until it may fit  5 max times
-- Returns 'parked', also where this was done before; 'unwanted' where it was put on hold and somebody
--       wants it cancelled; 'no_message' where its record has no message to queue it again with;
--       'spent' where it was on hold so often already; 'lost' where the lease has passed to another
--       run. In the last three nothing was written
-- Moves   running -> parked
--
-- Invariant: as for every write of a run, only the newest fence may write. A run that was put on hold
-- is no crash. But each run may pay for its first calls again, so the number of times is limited.

local record, leases, in_flight, cancelled, on_hold, ledger, money, reservations, open_calls,
  waiting_counts, pool_facts = unpack(KEYS)
local id, fence, refusal, wait_ms, max_times = unpack(ARGV)

-- include time
-- include moves
-- include windows
-- include usage_counters
-- include reservation
-- include on_hold
-- include occupancy

-- Whoever cancels the task on hold takes it off the list: until then a run that dies forgets nothing.
local function answer()
  return redis.call('SISMEMBER', cancelled, id) == 1 and 'unwanted' or 'parked'
end
local newest_fence, state, message, times, agent, started =
  unpack(redis.call('HMGET', record, 'fence', 'state', 'message', 'waits', 'agent', 'started'))
if newest_fence == fence and state == 'parked' then
  return answer()
end
if newest_fence ~= fence or state ~= 'running' then
  return 'lost'
end
if not message then
  return 'no_message'
end
if tonumber(times or 0) >= tonumber(max_times) then
  return 'spent'
end
wait_ms = tonumber(wait_ms)
local counters = open_counters(money)
charge_open_calls(record, ledger, counters, open_calls, id, now)
free_reservation(counters, reservations, id)
close_counters(counters)
move(record, waiting_counts, 'running', 'parked', agent, 'limit', 'pool', '', 'parked_for', refusal,
  'parked_until', may_fit_at(now, wait_ms))
redis.call('HDEL', record, 'lease_until')
redis.call('HINCRBY', record, 'waits', 1)
redis.call('ZREM', leases, id)
redis.call('SREM', in_flight, id)
redis.call('ZADD', on_hold, look_again_at(now, wait_ms), id)
count_occupancy(pool_facts, started)
return answer()
