-- Renew the leases of one process's runs, and list which of them are to stop.
--
-- KEYS  1 leases  2 cancelled  then the record of each task
-- ARGV  1 lease in ms  then for each task: its id, the fence of its run, 1 where its lease is due
-- Returns for each task 'kept', 'cancelled' where somebody wants it stopped, or 'lost' where the lease
--       has passed to another run or the task has ended
--
-- Invariant: only the newest fence of a running task can move its lease. A cancelled task's lease is
-- renewed all the same: its run has an end to write.

-- include groups

local leases, cancelled = unpack(KEYS, 1, 2)
local lease_ms = unpack(ARGV, 1, 1)
local next_record, runs = groups(KEYS, 3, 1), groups(ARGV, 2, 3)

-- include time

local until_ms = now + tonumber(lease_ms)

local function looked_at(record, id, fence, due)
  local newest_fence, state = unpack(redis.call('HMGET', record, 'fence', 'state'))
  if newest_fence ~= fence or state ~= 'running' then
    return 'lost'
  end
  if due == '1' then
    redis.call('HSET', record, 'lease_until', until_ms)
    redis.call('ZADD', leases, until_ms, id)
  end
  return redis.call('SISMEMBER', cancelled, id) == 1 and 'cancelled' or 'kept'
end

local found = {}
for id, fence, due in runs do
  found[#found + 1] = looked_at(next_record(), id, fence, due)
end
return found
