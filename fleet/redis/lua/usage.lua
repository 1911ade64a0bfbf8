-- Settle one step: add its tokens and its cost to the task, keep it there, write it into the ledger,
-- count it in every scope and window, and give back what was bound for it beyond that. Its answer may
-- be saved in the same step.
--
-- KEYS  1 task record  2 ledger  3 money  4 reservations  5 open steps  6 corrections
--       7 what is saved
-- ARGV  1 input tokens  2 output tokens  3 nano-dollars  4 1 where the cost is not certain
--       5 the step's name  6 the step, as JSON  7 the model, '' where it did not answer
--       8 task id  9 tenant  10 agent type  11 the step's model
--       12 fence  13 name to save its answer under, '' for not  14 the answer, as JSON  15 most bytes
--       that a task may save  16... names and values of the ledger's entry
-- Returns {nano-dollars that the task has cost by now, 0 where there is no such record; what became of
--       the answer, as in parts/saved.lua, '' where none was to be saved}
--
-- Invariant: spend is counted whoever holds the lease, for the tokens are burned; and once, however
-- often the same step is sent. Of a step that was charged as lost before, the difference is
-- charged. The sum of the ledger's entries is that of every scope's counters, in each window. An answer
-- is saved by the newest fence alone, and with its charge or not at all.

-- include time
-- include windows
-- include book
-- include reservation
-- include saved

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {0, ARGV[13] == '' and '' or 'lost'}
end
local id, call, amount = ARGV[8], ARGV[5], tonumber(ARGV[3])
local function answer()
  local kept = ''
  if ARGV[13] ~= '' then
    kept = save(KEYS[1], KEYS[7], ARGV[12], ARGV[13], ARGV[14], ARGV[15])
  end
  return {tonumber(redis.call('HGET', KEYS[1], 'cost_nanodollars')), kept}
end
local book, names = open_book(KEYS[3]), {ARGV[9], ARGV[10], ARGV[11]}
local scopes, minute = scopes_of(names), math.floor(now / 60000)

-- What was charged in place of the usage, and corrected since, is put right by the difference, in
-- the windows of then.
local function put_right(lost)
  local entry, charged, at, counted = string.match(lost, '^(%S+) (%d+) (%d+) (%S+)$')
  local task_difference = amount - tonumber(charged)
  local corrected = tonumber(redis.call('HGET', KEYS[6], 'of:' .. entry) or 0)
  local difference = task_difference - corrected
  redis.call('HDEL', KEYS[1], 'lost:' .. call)
  redis.call('HINCRBY', KEYS[1], 'uncertain_calls', ARGV[4] - 1)
  redis.call('HINCRBY', KEYS[1], 'cost_nanodollars', string.format('%.0f', task_difference))
  if difference == 0 then
    return
  end
  local windows = {}
  for window in string.gmatch(counted, '[^,]+') do
    windows[#windows + 1] = window
  end
  local fields = {}
  for i = 16, #ARGV, 2 do
    fields[ARGV[i]] = ARGV[i + 1]
  end
  fields.kind, fields.of, fields.by = 'correction', entry, 'fleet'
  fields.why, fields.windows = 'what it used was seen after all', counted
  if ARGV[4] == '1' then
    fields.why = 'what it can have used was seen after all'
  end
  fields.amount, fields.certain = string.format('%.0f', difference), '0'
  fields.estimate, fields.input, fields.cached, fields.output, fields.reasoning =
    '0', '0', '0', '0', '0'
  local flat = {}
  for name, value in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('XADD', KEYS[2], '*', unpack(flat))
  redis.call('HINCRBY', KEYS[6], 'of:' .. entry, string.format('%.0f', difference))
  settle(book, scopes, windows, minute, tonumber(at), {difference, 0, 0})
end

if redis.call('HSETNX', KEYS[1], 'call:' .. call, ARGV[3]) == 0 then
  local lost = redis.call('HGET', KEYS[1], 'lost:' .. call)
  if lost then
    put_right(lost)
    close_book(book)
  end
  return answer()
end

-- A step that was never admitted takes from what is free.
local used = {amount, ARGV[1] + ARGV[2], 1}
local step, reserved = take_open(KEYS[1], KEYS[5], id, call), reservation_of(KEYS[4], id)
if step then
  hold(book, scopes_of(step.names), negative(step.amounts))
end
if reserved and (not step or step.packed_names == reserved.packed_names) then
  local free, now_free = reserved.amounts, {}
  for i = 1, 3 do
    now_free[i] = math.max(0, free[i] + (step and step.amounts[i] or 0) - used[i])
  end
  hold(book, scopes_of(reserved.names),
    {now_free[1] - free[1], now_free[2] - free[2], now_free[3] - free[3]})
  redis.call('HSET', KEYS[4], id, packed_amounts(now_free, reserved.packed_names))
end
local windows = windows_of(now / 1000)
settle(book, scopes, windows, minute, minute, used)
close_book(book)
redis.call('XADD', KEYS[2], '*', 'windows', table.concat(windows, ','), unpack(ARGV, 16))
keep_step(KEYS[1], ARGV[6], now)
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'model', ARGV[7])
end
redis.call('HINCRBY', KEYS[1], 'input_tokens', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'output_tokens', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'uncertain_calls', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'cost_nanodollars', ARGV[3])
return answer()
