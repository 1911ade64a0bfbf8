-- Requeue a running task whose worker shuts down, for another worker to run it.
--
-- KEYS  1 task record  2 leases  3 in_flight of the pool it ran in  4 cancelled
--       5 the queue in which it waits without a slot  6 its wake list
--       7 ledger  8 usage counters  9 calls in flight  10 index of the queue  11 counts of waiting
--       tasks  12 facts of the pool it ran in
-- ARGV  1 task id  2 fence
-- Returns 'given_back', also where this was done before; 'unwanted' where it was requeued and
--       somebody wants it cancelled; 'no_message' where it was requeued and its record has no message
--       to queue: the delivered message has to go back; 'lost' where the lease has passed to
--       another run, or the task has ended: nothing was written then
-- Moves   running -> queued
--
-- Invariant: as for every write of a run, only the newest fence may write. The task is the next of its
-- queue, because it has waited before. A run that was requeued is neither a crash nor an outcome of
-- its pool. Its model calls in flight are charged their upper bounds, as uncertain. The rest of the
-- reservation stays for the next run.

local record, leases, in_flight, cancelled, queue, wake, ledger, money, open_calls, queue_index,
  waiting_counts, pool_facts = unpack(KEYS)
local id, fence = unpack(ARGV)

-- include time
-- include queue_index
-- include moves
-- include windows
-- include usage_counters
-- include reservation
-- include wake
-- include occupancy

local newest_fence, state, message, agent, started =
  unpack(redis.call('HMGET', record, 'fence', 'state', 'message', 'agent', 'started'))
local function requeued()
  if not message then
    return 'no_message'
  end
  return redis.call('SISMEMBER', cancelled, id) == 1 and 'unwanted' or 'given_back'
end
if newest_fence == fence and state == 'queued' then
  return requeued()
end
if newest_fence ~= fence or state ~= 'running' then
  return 'lost'
end
local counters = open_counters(money)
charge_open_calls(record, ledger, counters, open_calls, id, now)
close_counters(counters)
move(record, waiting_counts, 'running', 'queued', agent, 'given back', 'pool', '')
redis.call('HDEL', record, 'lease_until', 'aside')
redis.call('ZREM', leases, id)
redis.call('SREM', in_flight, id)
count_occupancy(pool_facts, started)
if message then
  redis.call('RPUSH', queue, message)
  index_first(queue_index, id)
  wake_worker(wake)
end
return requeued()
