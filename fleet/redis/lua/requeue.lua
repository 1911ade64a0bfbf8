-- Give a task whose lease has ended to the next worker, or end it after too many crashes.
--
-- KEYS  1 task record  2 leases  3 in_flight of the pool it ran in  4 overflow queue
--       5 its wake list  6 done channel  7 facts of the pool it ran in
--       8 ledger  9 money  10 reservations  11 open steps  12 line of the overflow queue
--       13 how many tasks wait  14 dead letters  15 cancelled
--       16 what is saved  17 until when expiry is on hold
-- ARGV  1 task id  2 fence that was seen  3 most crashes  4 seconds to keep a dead letter
--       5 error, as JSON, where it has crashed so often  6 outcomes to keep  7 request type
--       8 ms in which an old outcome loses half its weight  9 error, as JSON, where no message is kept
--       to run it again with  10 to 12 ARGV 1 to 3 of clock.lua
-- Returns 'requeued', 'unwanted' where it was requeued and somebody wants it cancelled, 'failed', or
--       'alive' where the lease was renewed, the task has ended or expiry is on hold
-- Moves   running -> queued, failed
--
-- Invariant: judged by the server's clock and by the fence, so two callers, or a caller
-- and a worker that comes back, cannot both win. The run that nobody ended counts as a failure
-- of its pool, once: what began is counted as ended, whichever process died. One that stood aside had
-- not begun: it is no crash of the task, and says nothing of the pool. What its running step
-- may have cost at most is charged, as uncertain; the rest of what is held stays for the next run,
-- and is given back where there is none. Celery has the word of an end.

-- include time
-- include clock
-- include line
-- include moves
-- include dead
-- include health
-- include outcome
-- include windows
-- include book
-- include reservation
-- include wake
-- include word

local id = ARGV[1]
local seen = redis.call('HMGET', KEYS[1], 'state', 'fence', 'lease_until', 'message', 'started')
if seen[1] ~= 'running' then
  redis.call('ZREM', KEYS[2], id)
  return 'alive'
end
if seen[2] ~= ARGV[2] or tonumber(seen[3]) > now then
  return 'alive'
end
if clock_step(ARGV[10], ARGV[11]) ~= 0 then
  hold_expiry(KEYS[17], ARGV[12])
end
if expiry_is_held(KEYS[17], ARGV[12]) then
  return 'alive'
end
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('ZREM', KEYS[2], id)
redis.call('SREM', KEYS[3], id)
local book = open_book(KEYS[9])
charge_open_steps(KEYS[1], KEYS[8], book, KEYS[11], id, now)
local crashes, why = 0, 'it stood aside when its lease ended'
if redis.call('HDEL', KEYS[1], 'aside') == 0 then
  count_outcome(KEYS[7], ARGV[7], 'failed', (now - tonumber(seen[5])) / 1000, now,
    tonumber(ARGV[6]), tonumber(ARGV[8]))
  crashes = redis.call('HINCRBY', KEYS[1], 'crashes', 1)
  why = 'crash ' .. crashes .. ': its lease ended'
end
if crashes >= tonumber(ARGV[3]) or not seen[4] then
  release(book, KEYS[10], id)
  close_book(book)
  move(KEYS[1], KEYS[13], 'running', 'failed', 'reaper', why, 'ended', now,
    'error', seen[4] and ARGV[5] or ARGV[9])
  redis.call('HDEL', KEYS[1], 'lease_until')
  bury(KEYS[1], KEYS[16], KEYS[14], id, 'crashes', ARGV[4])
  redis.call('SREM', KEYS[15], id)
  send_word(seen[4], KEYS[4], KEYS[5])
  redis.call('PUBLISH', KEYS[6], 'failed')
  return 'failed'
end
close_book(book)
move(KEYS[1], KEYS[13], 'running', 'queued', 'reaper', why, 'pool', '')
redis.call('HDEL', KEYS[1], 'lease_until')
-- In front, since it has waited; behind all others where one more crash would be the last.
if crashes < tonumber(ARGV[3]) - 1 then
  redis.call('RPUSH', KEYS[4], seen[4])
  stand_first(KEYS[12], id)
else
  redis.call('LPUSH', KEYS[4], seen[4])
  stand_last(KEYS[12], id)
end
wake_worker(KEYS[5])
return redis.call('SISMEMBER', KEYS[15], id) == 1 and 'unwanted' or 'requeued'
