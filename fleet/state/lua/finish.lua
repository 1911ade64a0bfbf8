-- End a running task: its last state and result, its slot and lease given back, its
-- outcome counted for the pool, and everybody who waits told.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 pool facts  6 done channel
--       7 ledger  8 money  9 reservations  10 open steps
-- ARGV  1 task id  2 fence  3 state  4 seconds to keep the record  5 outcomes to keep
--       6 1 where the outcome says something about the pool, else 0  7 request type
--       8 ms in which an old outcome loses half its weight
--       then fields and values, such as the result
-- Returns {kept, failures}: kept 0 where the lease has passed to another run and nothing was
--       written, else 1; failures the pool's in a row, 0 where this end was none
--
-- Invariant: one run writes an end, once (the same end sent again, because the first answer
-- was lost, is answered as kept again). The seconds of a run are the server's. A cancelled task,
-- or a request that could not be answered by any pool, says nothing about this one.
-- What was held for the task is given back; a step that has not said what it used is charged at
-- its worst.

-- include time
-- include health
-- include outcome
-- include windows
-- include book
-- include reservation

local id, state = ARGV[1], ARGV[3]
local before = redis.call('HMGET', KEYS[1], 'fence', 'state', 'started')
if before[1] ~= ARGV[2] or before[2] ~= 'running' then
  return {before[1] == ARGV[2] and before[2] == state and 1 or 0, 0}
end
redis.call('HSET', KEYS[1], 'state', state, 'ended', now, unpack(ARGV, 9))
redis.call('HDEL', KEYS[1], 'message', 'lease_until')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZREM', KEYS[2], id)
redis.call('SREM', KEYS[3], id)
redis.call('SREM', KEYS[4], id)
local book = open_book(KEYS[8])
charge_open_steps(KEYS[1], KEYS[7], book, KEYS[10], id, now)
release(book, KEYS[9], id)
close_book(book)
redis.call('PUBLISH', KEYS[6], state)
if ARGV[6] ~= '1' then
  return {1, 0}
end
local seconds = (now - tonumber(before[3])) / 1000
count_outcome(KEYS[5], ARGV[7], state, seconds, now, tonumber(ARGV[5]),
  tonumber(ARGV[8]))
local failures = string.match(redis.call('HGET', KEYS[5], 'stat'), ',(%d+),[^,]+$')
return {1, tonumber(failures)}
