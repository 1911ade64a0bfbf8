-- Cancel a task: at once where it waits, by asking its worker where it runs.
--
-- KEYS  1 task record  2 cancelled  3 in_flight of the pool that holds its slot  4 done channel
--       5 parked tasks  6 money  7 reservations  8 delayed tasks  9 how many tasks wait
--       10 what is saved  11 overflow queue  12 its wake list
-- ARGV  1 task id  2 the pool that KEYS[3] belongs to, '' for none  3 seconds to keep the record
--       4 who cancels  5 why, '' where nobody says  6 1 where it is to stop if it runs, else 0
-- Returns the state before: 'queued', 'parked', 'delayed' and 'running' were cancelled or asked,
--         any other had ended; 'moved' where the task changed pools meanwhile (call again), 'unknown'
-- Moves   queued, delayed, parked -> cancelled
--
-- Invariant: a cancelled task holds no slot and no money, and nothing that it has saved. Its message
-- stays where it is, and whoever fetches it gives Celery the word; that of one in no queue is put into
-- one for that.

-- include time
-- include moves
-- include book
-- include reservation
-- include wake
-- include word

local id = ARGV[1]
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  return 'unknown'
end
if state == 'queued' or state == 'parked' or state == 'delayed' then
  if (redis.call('HGET', KEYS[1], 'pool') or '') ~= ARGV[2] then
    return 'moved'
  end
  move(KEYS[1], KEYS[9], state, 'cancelled', ARGV[4], ARGV[5], 'ended', now)
  if state ~= 'queued' then
    send_word(redis.call('HGET', KEYS[1], 'message'), KEYS[11], KEYS[12])
  end
  redis.call('HDEL', KEYS[1], 'message')
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  redis.call('DEL', KEYS[10])
  if ARGV[2] ~= '' then
    redis.call('SREM', KEYS[3], id)
  end
  redis.call('ZREM', KEYS[5], id)
  redis.call('ZREM', KEYS[8], id)
  redis.call('SREM', KEYS[2], id)
  local book = open_book(KEYS[6])
  release(book, KEYS[7], id)
  close_book(book)
  redis.call('PUBLISH', KEYS[4], 'cancelled')
elseif state == 'running' and ARGV[6] == '1' then
  redis.call('SADD', KEYS[2], id)
end
return state
