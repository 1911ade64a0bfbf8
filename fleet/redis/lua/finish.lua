-- End a running task: its last state and result, its slot and lease given back, its
-- outcome counted for the pool, and everybody who waits told.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 pool facts  6 done channel
--       7 ledger  8 money  9 reservations  10 open steps  11 how many tasks wait  12 dead letters
--       13 what is saved
-- ARGV  1 task id  2 fence  3 state  4 seconds to keep the record  5 outcomes to keep
--       6 1 where the outcome says something about the pool, else 0  7 request type
--       8 ms in which an old outcome loses half its weight  9 why it is a dead letter, where it
--       failed, and 10 seconds to keep the record of one
--       then fields and values, such as the result
-- Returns {kept, failures}: kept 0 where the lease has passed to another run and nothing was
--       written, else 1; failures the pool's in a row, 0 where this end was none
-- Moves   running -> succeeded, unverified, failed, cancelled
--
-- Invariant: one run writes an end, once (the same end sent again, because the first answer
-- was lost, is answered as kept again). The seconds of a run are the server's. A cancelled task,
-- or a request that could not be answered by any pool, says nothing about this one.
-- What was held for the task is given back; a step that has not said what it used is charged at
-- its worst. What it has saved stays with a dead letter alone.

-- include time
-- include moves
-- include dead
-- include health
-- include outcome
-- include windows
-- include book
-- include reservation

local id, state = ARGV[1], ARGV[3]
local before = redis.call('HMGET', KEYS[1], 'fence', 'state', 'started', 'agent')
if before[1] ~= ARGV[2] or before[2] ~= 'running' then
  return {before[1] == ARGV[2] and before[2] == state and 1 or 0, 0}
end
local is_dead = state == 'failed'
move(KEYS[1], KEYS[11], 'running', state, before[4], is_dead and ARGV[9] or '', 'ended', now,
  unpack(ARGV, 11))
redis.call('HDEL', KEYS[1], 'lease_until')
if is_dead then
  bury(KEYS[1], KEYS[13], KEYS[12], id, ARGV[9], ARGV[10])
else
  redis.call('HDEL', KEYS[1], 'message')
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  redis.call('DEL', KEYS[13])
end
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
