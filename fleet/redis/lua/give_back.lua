-- Give a running task back: its worker is told to stop, and another one shall run it.
--
-- KEYS  1 task record  2 leases  3 in_flight of the pool it ran in  4 cancelled
--       5 the queue in which it waits without a slot  6 its wake list
--       7 ledger  8 money  9 open steps  10 line of the queue  11 how many tasks wait
-- ARGV  1 task id  2 fence
-- Returns 'given_back', also where this was done before; 'unwanted' where it was given back and
--       somebody wants it cancelled; 'no_message' where it was given back and its record has none
--       to queue: the one that was delivered has to go back; 'lost' where the lease has passed to
--       another run, or the task has ended: nothing was written then
-- Moves   running -> queued
--
-- Invariant: as for every write of a run, only the newest fence may. The task is the next of its
-- queue: it has waited before. A run that was given back is no crash, nor an outcome of its pool. What its running step may have
-- cost at most is charged, as uncertain; the rest of what is held stays for the next run.

-- include time
-- include line
-- include moves
-- include windows
-- include book
-- include reservation
-- include wake

local id = ARGV[1]
local before = redis.call('HMGET', KEYS[1], 'fence', 'state', 'message', 'agent')
local message = before[3]
local function given_back()
  if not message then
    return 'no_message'
  end
  return redis.call('SISMEMBER', KEYS[4], id) == 1 and 'unwanted' or 'given_back'
end
if before[1] == ARGV[2] and before[2] == 'queued' then
  return given_back()
end
if before[1] ~= ARGV[2] or before[2] ~= 'running' then
  return 'lost'
end
local book = open_book(KEYS[8])
charge_open_steps(KEYS[1], KEYS[7], book, KEYS[9], id, now)
close_book(book)
move(KEYS[1], KEYS[11], 'running', 'queued', before[4], 'given back', 'pool', '')
redis.call('HDEL', KEYS[1], 'lease_until', 'aside')
redis.call('ZREM', KEYS[2], id)
redis.call('SREM', KEYS[3], id)
if message then
  redis.call('RPUSH', KEYS[5], message)
  stand_first(KEYS[10], id)
  wake_worker(KEYS[6])
end
return given_back()
