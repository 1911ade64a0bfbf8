-- Settle one model call: add its tokens and its cost to the task, keep the call with the task, write
-- the ledger's entry, count the call in every scope and window, and free the rest of its bound. The
-- same step may checkpoint its answer.
--
-- KEYS  1 task record  2 ledger  3 usage counters  4 reservations  5 calls in flight  6 corrections
--       7 checkpoints  8 facts, 9 calls of the provider's key, see parts/key_places.lua
-- ARGV  1 input tokens  2 output tokens  3 nano-dollars  4 1 where the cost is not certain
--       5 the call's name  6 the call, as JSON  7 the model, '' where it did not answer
--       8 task id  9 tenant  10 agent type  11 the call's model
--       12 fence  13 name to save its answer under, '' for not  14 the answer, as JSON  15 max bytes
--       that a task may save  16 id of the provider's key, '' for none  17 nano-dollars that the call
--       bound  18 answered, refused where the provider serves no more calls at once, '' where that does
--       not show  19 ms that it asks for  20 ms that a place lasts  21 the most calls of a model with
--       the key, '' for no such bound  22... names and values of the ledger's entry
-- Returns {nano-dollars that the task has cost by now, 0 where there is no such record; the status of
--       the checkpoint, as in parts/checkpoints.lua, '' where none was asked for; 1 where the provider
--       serves calls, only no more at once, else 0}
--
-- Invariant: spend is counted even after the lease has passed to another run, because the tokens are
-- used; and once, however often the same call is sent. Of a call that was charged as lost before, the
-- difference is charged. The sum of the ledger's entries is that of every scope's counters, in each
-- window. Only the newest fence saves an answer, and only together with its charge.

-- include groups

local record, ledger, money, reservations, open_calls, corrections, checkpoints, key_facts, key_calls =
  unpack(KEYS)
local input_tokens, output_tokens, nanodollars, is_uncertain, call, packed_call, answering_model,
  id, tenant, agent_type, model, fence, checkpoint, value, max_bytes, key_id, bound_nanodollars,
  key_outcome, retry_ms, place_ms, most_calls = unpack(ARGV, 1, 21)
local entry = {unpack(ARGV, 22)}

-- include time
-- include windows
-- include usage_counters
-- include reservation
-- include checkpoints
-- include key_places

local amount, is_paced = tonumber(nanodollars), 0

-- Free the call's place with its key, which has spent the amount, and learn from how the call ended.
-- A call whose place was lost counted as spent what it bound.
local function leave_key(counts_without_place)
  if key_id == '' then
    return
  end
  local place = place_of(model, bound_nanodollars, id .. ' ' .. call)
  local ends = redis.call('ZSCORE', key_calls, place)
  local began = ends and ends - place_ms
  if began and key_outcome == 'answered' then
    note_answer(key_facts, model, began, most_calls)
  elseif began and key_outcome == 'refused' then
    is_paced = note_key_refusal(key_facts, model, began, tonumber(retry_ms)) and 0 or 1
  end
  if free_place(key_facts, key_calls, place, 0) or counts_without_place then
    spend(key_facts, windows_of(now / 1000)[2], amount)
  end
end

if redis.call('EXISTS', record) == 0 then
  leave_key(false)
  return {0, checkpoint == '' and '' or 'lost', is_paced}
end
local function answer()
  local status = ''
  if checkpoint ~= '' then
    status = save(record, checkpoints, fence, checkpoint, value, max_bytes)
  end
  return {tonumber(redis.call('HGET', record, 'cost_nanodollars')), status, is_paced}
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
  leave_key(false)
  local lost = redis.call('HGET', record, 'lost:' .. call)
  if lost then
    put_right(lost)
    close_counters(counters)
  end
  return answer()
end

leave_key(true)
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
