-- Park a running task whose next step does not fit a limit: until then it takes no slot, no worker
-- and no money.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 parked tasks  6 ledger  7 money
--       8 reservations  9 open steps
-- ARGV  1 task id  2 fence  3 refusal, see parts/limits.lua  4 ms until it may fit
-- Returns 1, also where this was done before; 0 where the lease has passed to another run
--
-- Invariant: as for every write of a run, only the newest fence may. A run that was parked is no
-- crash: it does not count among the attempts that make a task fail.

-- include time
-- include windows
-- include book
-- include reservation

local id = ARGV[1]
local before = redis.call('HMGET', KEYS[1], 'fence', 'state')
if before[1] ~= ARGV[2] or before[2] ~= 'running' then
  return before[1] == ARGV[2] and before[2] == 'parked' and 1 or 0
end
local book = open_book(KEYS[7])
charge_open_steps(KEYS[1], KEYS[6], book, KEYS[9], id, now)
release(book, KEYS[8], id)
close_book(book)
redis.call('HSET', KEYS[1], 'state', 'parked', 'pool', '', 'parked_for', ARGV[3])
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('HINCRBY', KEYS[1], 'waits', 1)
redis.call('ZREM', KEYS[2], id)
redis.call('SREM', KEYS[3], id)
redis.call('ZADD', KEYS[5], now + ARGV[4], id)
if redis.call('SREM', KEYS[4], id) == 1 then
  return 2
end
return 1
