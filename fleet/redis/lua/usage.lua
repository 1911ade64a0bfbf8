-- Settle one model call: add its tokens and its cost to the task, keep the call with the task, write
-- the ledger's entry, count the call in every scope and window, and free the rest of its bound. The
-- same step may checkpoint its answer.
--
-- KEYS  1 task record  2 ledger  3 usage counters  4 reservations  5 calls in flight  6 corrections
--       7 checkpoints
-- ARGV  1 input tokens  2 output tokens  3 nano-dollars  4 1 where the cost is not certain
--       5 the call's name  6 the call, as JSON  7 the model, '' where it did not answer
--       8 task id  9 tenant  10 agent type  11 the call's model
--       12 fence  13 name to save its answer under, '' for not  14 the answer, as JSON  15 max bytes
--       that a task may save  16... names and values of the ledger's entry
-- Returns {nano-dollars that the task has cost by now, 0 where there is no such record; the status of
--       the checkpoint, as in parts/checkpoints.lua, '' where none was asked for}
--
-- Invariant: spend is counted even after the lease has passed to another run, because the tokens are
-- used; and once, however often the same call is sent. Of a call that was charged as lost before, the
-- difference is charged. The sum of the ledger's entries is that of every scope's counters, in each
-- window. Only the newest fence saves an answer, and only together with its charge.

-- include groups

local record, ledger, money, reservations, open_calls, corrections, checkpoints = unpack(KEYS)
local input_tokens, output_tokens, nanodollars, is_uncertain, call, packed_call, answering_model,
  id, tenant, agent_type, model, fence, checkpoint, value, max_bytes = unpack(ARGV, 1, 15)
local entry = {unpack(ARGV, 16)}

-- include time
-- include windows
-- include usage_counters
-- include reservation
-- include checkpoints

if redis.call('EXISTS', record) == 0 then
  return {0, checkpoint == '' and '' or 'lost'}
end
local amount = tonumber(nanodollars)
local function answer()
  local status = ''
  if checkpoint ~= '' then
    status = save(record, checkpoints, fence, checkpoint, value, max_bytes)
  end
  return {tonumber(redis.call('HGET', record, 'cost_nanodollars')), status}
end
local counters = open_counters(money)
local scopes, minute = scopes_of({tenant, agent_type, model}), math.floor(now / 60000)

-- A lost call was charged its upper bound, and the charge may have been corrected since. Charge the
-- difference, in the windows of that charge.
local function put_right(lost)
  local of, charged, at, counted = string.match(lost, '^(%S+) (%d+) (%d+) (%S+)$')
  local task_difference = amount - tonumber(charged)
  local corrected = tonumber(redis.call('HGET', corrections, 'of:' .. of) or 0)
  local difference = task_difference - corrected
  redis.call('HDEL', record, 'lost:' .. call)
  redis.call('HINCRBY', record, 'uncertain_calls', is_uncertain - 1)
  redis.call('HINCRBY', record, 'cost_nanodollars', string.format('%.0f', task_difference))
  if difference == 0 then
    return
  end
  local windows = {}
  for window in string.gmatch(counted, '[^,]+') do
    windows[#windows + 1] = window
  end
  local fields = {}
  for name, found in groups(entry, 1, 2) do
    fields[name] = found
  end
  fields.kind, fields.of, fields.by = 'correction', of, 'fleet'
  fields.why, fields.windows = 'what it used was seen after all', counted
  if is_uncertain == '1' then
    fields.why = 'what it can have used was seen after all'
  end
  fields.amount, fields.certain = string.format('%.0f', difference), '0'
  fields.estimate, fields.input, fields.cached, fields.output, fields.reasoning =
    '0', '0', '0', '0', '0'
  local flat = {}
  for name, found in pairs(fields) do
    flat[#flat + 1] = name
    flat[#flat + 1] = found
  end
  redis.call('XADD', ledger, '*', unpack(flat))
  redis.call('HINCRBY', corrections, 'of:' .. of, string.format('%.0f', difference))
  settle(counters, scopes, windows, minute, tonumber(at), {difference, 0, 0})
end

if redis.call('HSETNX', record, 'call:' .. call, nanodollars) == 0 then
  local lost = redis.call('HGET', record, 'lost:' .. call)
  if lost then
    put_right(lost)
    close_counters(counters)
  end
  return answer()
end

-- A call that was never admitted takes from the free amounts.
local used = {amount, input_tokens + output_tokens, 1}
local bound, reserved = take_call(record, open_calls, id, call), reservation_of(reservations, id)
if bound then
  hold(counters, scopes_of(bound.names), negative(bound.amounts))
end
if reserved and (not bound or bound.packed_names == reserved.packed_names) then
  local free, now_free = reserved.amounts, {}
  for i = 1, 3 do
    now_free[i] = math.max(0, free[i] + (bound and bound.amounts[i] or 0) - used[i])
  end
  hold(counters, scopes_of(reserved.names),
    {now_free[1] - free[1], now_free[2] - free[2], now_free[3] - free[3]})
  redis.call('HSET', reservations, id, packed_amounts(now_free, reserved.packed_names))
end
local windows = windows_of(now / 1000)
settle(counters, scopes, windows, minute, minute, used)
close_counters(counters)
redis.call('XADD', ledger, '*', 'windows', table.concat(windows, ','), unpack(entry))
keep_call(record, packed_call, now)
if answering_model ~= '' then
  redis.call('HSET', record, 'model', answering_model)
end
redis.call('HINCRBY', record, 'input_tokens', input_tokens)
redis.call('HINCRBY', record, 'output_tokens', output_tokens)
redis.call('HINCRBY', record, 'uncertain_calls', is_uncertain)
redis.call('HINCRBY', record, 'cost_nanodollars', nanodollars)
return answer()
