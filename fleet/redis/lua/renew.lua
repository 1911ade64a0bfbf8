-- Renew the leases of one process's runs, and say which of them are to stop.
--
-- KEYS  1 leases  2 cancelled  then the record of each task
-- ARGV  1 lease in ms  then for each task: its id, the fence of its run, 1 where its lease is due
-- Returns for each task 'kept', 'cancelled' where somebody wants it stopped, or 'lost' where the lease
--       has passed to another run or the task has ended
--
-- Invariant: only the newest fence of a running task can move its lease. One that is cancelled is
-- renewed all the same: its run has an end to write.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local until_ms = now + tonumber(ARGV[1])

local function looked_at(record, id, fence, due)
  local task = redis.call('HMGET', record, 'fence', 'state')
  if task[1] ~= fence or task[2] ~= 'running' then
    return 'lost'
  end
  if due == '1' then
    redis.call('HSET', record, 'lease_until', until_ms)
    redis.call('ZADD', KEYS[1], until_ms, id)
  end
  return redis.call('SISMEMBER', KEYS[2], id) == 1 and 'cancelled' or 'kept'
end

local found = {}
for i = 3, #KEYS do
  local first = 3 * i - 7
  found[#found + 1] = looked_at(KEYS[i], ARGV[first], ARGV[first + 1], ARGV[first + 2])
end
return found
