-- Give back what is held for a task that has ended or is not known any more, and charge the steps
-- that nobody has settled.
--
-- KEYS  1 task record  2 ledger  3 money  4 reservations  5 open steps
-- ARGV  1 task id  2... names of open steps of it that were seen
-- Returns 1 where anything was given back or charged, 0 where the task goes on or holds nothing
--
-- Invariant: judged by the task's record, in the moment of giving back: a task that waits, is parked
-- or runs keeps what it holds; a delayed one holds nothing. No record is begun anew for a task whose record is gone.

-- include time
-- include windows
-- include book
-- include reservation

local id, state = ARGV[1], redis.call('HGET', KEYS[1], 'state')
if state == 'queued' or state == 'parked' or state == 'running' then
  return 0
end

-- Its open steps: those that were seen, and those that its record still names.
local calls, known = {}, {}
local function note(call)
  if not known[call] and redis.call('HEXISTS', KEYS[5], id .. ' ' .. call) == 1 then
    known[call] = true
    calls[#calls + 1] = call
  end
end
for i = 2, #ARGV do
  note(ARGV[i])
end
for call in string.gmatch(redis.call('HGET', KEYS[1], 'open') or '', '%S+') do
  note(call)
end
local is_held = redis.call('HEXISTS', KEYS[4], id) == 1
if not is_held and #calls == 0 then
  return 0
end

local book, seconds = open_book(KEYS[3]), math.floor(now / 1000)
local windows, minute = windows_of(seconds), math.floor(seconds / 60)
release(book, KEYS[4], id)
if state and #calls > 0 then
  redis.call('HSET', KEYS[1], 'open', table.concat(calls, ' '))
  charge_open_steps(KEYS[1], KEYS[2], book, KEYS[5], id, now)
else
  for _, call in ipairs(calls) do
    local step = parsed_amounts(redis.call('HGET', KEYS[5], id .. ' ' .. call))
    redis.call('HDEL', KEYS[5], id .. ' ' .. call)
    charge_at_worst(KEYS[2], book, step, cjson.decode(step.lost), windows, minute)
  end
end
close_book(book)
return 1
