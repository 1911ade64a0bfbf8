-- Put a task back whose run ended in an error that time may heal: until it is tried again it takes no
-- slot, no worker and no money.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 parked tasks  6 ledger  7 money
--       8 reservations  9 open steps  10 how many tasks wait  11 pool facts
-- ARGV  1 task id  2 fence  3 error, as JSON  4 its class  5 ms to wait  6 outcomes to keep  7 1 where
--       the error says something about the pool, else 0  8 request type  9 ms in which an old outcome
--       loses half its weight
-- Returns {status, failures}: status 'parked', also where this was done before; 'unwanted' where it
--       was put back and somebody wants it cancelled; 'no_message' where its record has none to bring
--       it back by; 'lost' where the lease has passed to another run. In the last two nothing was
--       written. failures are the pool's in a row
-- Moves   running -> parked
--
-- Invariant: as for every write of a run, only the newest fence may. All that the run held goes back:
-- a step that has not said what it used is charged at its worst. unpark.lua holds the money anew, and
-- not before `retry_at`, by the server's clock.

-- include time
-- include moves
-- include health
-- include outcome
-- include windows
-- include book
-- include reservation

local id = ARGV[1]
local function parked()
  return redis.call('SISMEMBER', KEYS[4], id) == 1 and 'unwanted' or 'parked'
end
local before = redis.call('HMGET', KEYS[1], 'fence', 'state', 'message', 'agent', 'started')
if before[1] == ARGV[2] and before[2] == 'parked' then
  return {parked(), 0}
end
if before[1] ~= ARGV[2] or before[2] ~= 'running' then
  return {'lost', 0}
end
if not before[3] then
  return {'no_message', 0}
end
local book = open_book(KEYS[7])
charge_open_steps(KEYS[1], KEYS[6], book, KEYS[9], id, now)
release(book, KEYS[8], id)
close_book(book)
local at = string.format('%.0f', now + tonumber(ARGV[5]))
local why = 'retry ' .. redis.call('HINCRBY', KEYS[1], 'retries', 1) .. ': ' .. ARGV[4]
redis.call('HSETNX', KEYS[1], 'retrying_since', now)
move(KEYS[1], KEYS[10], 'running', 'parked', before[4], why, 'pool', '', 'retry_at', at,
  'parked_until', at, 'retry_error', ARGV[3])
redis.call('HDEL', KEYS[1], 'lease_until')
redis.call('ZREM', KEYS[2], id)
redis.call('SREM', KEYS[3], id)
redis.call('ZADD', KEYS[5], at, id)
if ARGV[7] ~= '1' then
  return {parked(), 0}
end
local seconds = (now - tonumber(before[5])) / 1000
count_outcome(KEYS[11], ARGV[8], 'failed', seconds, now, tonumber(ARGV[6]), tonumber(ARGV[9]))
local failures = string.match(redis.call('HGET', KEYS[11], 'stat'), ',(%d+),[^,]+$')
return {parked(), tonumber(failures)}
