-- Free the amounts held for a task that has ended or is not known any more, and charge its model calls
-- that nobody has settled.
--
-- KEYS  1 task record  2 ledger  3 usage counters  4 reservations  5 calls in flight
-- ARGV  1 task id  2... names of the task's calls in flight that were seen
-- Returns 1 where anything was freed or charged, 0 where the task goes on or holds nothing
--
-- Invariant: the task's record decides, in the step that frees: a task that waits, is on hold
-- or runs keeps its amounts; a delayed one holds nothing. No record is begun anew for a task whose
-- record is gone.

local record, ledger, money, reservations, open_calls = unpack(KEYS)
local id = unpack(ARGV, 1, 1)
local seen = {unpack(ARGV, 2)}

-- include time
-- include windows
-- include usage_counters
-- include reservation

local state = redis.call('HGET', record, 'state')
if state == 'queued' or state == 'parked' or state == 'running' then
  return 0
end

-- The calls in flight: those that were seen, and those that the record still names.
local calls, known = {}, {}
local function note(call)
  if not known[call] and redis.call('HEXISTS', open_calls, id .. ' ' .. call) == 1 then
    known[call] = true
    calls[#calls + 1] = call
  end
end
for _, call in ipairs(seen) do
  note(call)
end
for call in string.gmatch(redis.call('HGET', record, 'open') or '', '%S+') do
  note(call)
end
local is_held = redis.call('HEXISTS', reservations, id) == 1
if not is_held and #calls == 0 then
  return 0
end

local counters, seconds = open_counters(money), math.floor(now / 1000)
local windows, minute = windows_of(seconds), math.floor(seconds / 60)
free_reservation(counters, reservations, id)
if state and #calls > 0 then
  redis.call('HSET', record, 'open', table.concat(calls, ' '))
  charge_open_calls(record, ledger, counters, open_calls, id, now)
else
  for _, call in ipairs(calls) do
    local bound = parsed_amounts(redis.call('HGET', open_calls, id .. ' ' .. call))
    redis.call('HDEL', open_calls, id .. ' ' .. call)
    charge_upper_bound(ledger, counters, bound, cjson.decode(bound.lost), windows, minute)
  end
end
close_counters(counters)
return 1
