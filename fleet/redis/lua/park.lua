-- Park a running task whose next step does not fit a limit: until then it takes no slot, no worker
-- and no money.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 parked tasks  6 ledger  7 money
--       8 reservations  9 open steps  10 how many tasks wait
-- ARGV  1 task id  2 fence  3 refusal, see parts/limits.lua  4 ms until it may fit  5 most times
-- Returns 'parked', also where this was done before; 'unwanted' where it was parked and somebody
--       wants it cancelled; 'no_message' where its record has none to bring it back by; 'spent'
--       where it was parked so often already; 'lost' where the lease has passed to another run. In
--       the last three nothing was written
-- Moves   running -> parked
--
-- Invariant: as for every write of a run, only the newest fence may. A run that was parked is no
-- crash. But each run may pay for its first steps again, so there are only so many.

-- include time
-- include moves
-- include windows
-- include book
-- include reservation
-- include parked

local id = ARGV[1]
-- Whoever cancels what is parked takes it off the list: until then a run that dies forgets nothing.
local function parked()
  return redis.call('SISMEMBER', KEYS[4], id) == 1 and 'unwanted' or 'parked'
end
local before = redis.call('HMGET', KEYS[1], 'fence', 'state', 'message', 'waits')
if before[1] == ARGV[2] and before[2] == 'parked' then
  return parked()
end
if before[1] ~= ARGV[2] or before[2] ~= 'running' then
  return 'lost'
end
if not before[3] then
  return 'no_message'
end
if tonumber(before[4] or 0) >= tonumber(ARGV[5]) then
  return 'spent'
end
local book = open_book(KEYS[7])
charge_open_steps(KEYS[1], KEYS[6], book, KEYS[9], id, now)
release(book, KEYS[8], id)
close_book(book)
move(KEYS[1], KEYS[10], 'running', 'parked', redis.call('HGET', KEYS[1], 'agent'), 'limit',
  'pool', '', 'parked_for', ARGV[3], 'parked_until', may_fit_at(now, tonumber(ARGV[4])))
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('HINCRBY', KEYS[1], 'waits', 1)
redis.call('ZREM', KEYS[2], id)
redis.call('SREM', KEYS[3], id)
redis.call('ZADD', KEYS[5], look_again_at(now, tonumber(ARGV[4])), id)
return parked()
