-- Publish the message of a queued task again that is in no queue and that no worker holds.
--
-- KEYS  1 task record  2 queue  3 its wake list  4 its line  5 in_flight of the pool whose queue
--       it is, or of any  6 done channel  7 money  8 reservations
--       9 how many tasks wait  10 dead letters  11 what is saved
-- ARGV  1 task id  2 its number in the line, as missing.lua found it  3 most times to do this
--       4 error, as JSON, for a task whose message was lost more often  5 seconds to keep a dead letter
-- Returns 'republished', 'failed', or 'gone' where it is not missing (any more)
-- Moves   queued -> failed
--
-- Invariant: the number in the line changes with every move of the message, so of two that have
-- found it missing one publishes it. It goes in front: it has waited. A message that is
-- lost again and again is dropped by those who get it: its task ends, and what it held is free.

-- include time
-- include line
-- include moves
-- include dead
-- include book
-- include reservation
-- include wake
-- include word

local id = ARGV[1]
if redis.call('ZSCORE', KEYS[4], id) ~= ARGV[2] then
  return 'gone'
end
local task = redis.call('HMGET', KEYS[1], 'state', 'message')
if task[1] ~= 'queued' or not task[2] then
  redis.call('ZREM', KEYS[4], id)
  return 'gone'
end
if redis.call('HINCRBY', KEYS[1], 'republished', 1) > tonumber(ARGV[3]) then
  redis.call('ZREM', KEYS[4], id)
  redis.call('SREM', KEYS[5], id)
  local book = open_book(KEYS[7])
  release(book, KEYS[8], id)
  close_book(book)
  move(KEYS[1], KEYS[9], 'queued', 'failed', 'reaper', 'lost', 'ended', now, 'error', ARGV[4])
  bury(KEYS[1], KEYS[11], KEYS[10], id, 'lost', ARGV[5])
  send_word(task[2], KEYS[2], KEYS[3])
  redis.call('PUBLISH', KEYS[6], 'failed')
  return 'failed'
end
redis.call('RPUSH', KEYS[2], task[2])
stand_first(KEYS[4], id)
wake_worker(KEYS[3])
return 'republished'
