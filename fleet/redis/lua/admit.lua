-- Admit one step of a running task: bind the worst that it may cost, or refuse it.
--
-- KEYS  1 task record  2 policy  3 money  4 reservations  5 open steps  6 models
-- ARGV  1 task id  2 fence  3 a name for this very step  4 version of the policy that the limits are
--       of  5 nano-dollars, 6 tokens: the most it may take  7 limits of the task itself, as in
--       parts/limits.lua with the window t  8 what to write should the step be lost, see
--       parts/reservation.lua  9 limits of everything, 10 of the tenant, 11 of the agent type,
--       12 of the model  13 tenant, 14 agent type, 15 model
--       16 the record of the model's limit that 5 and 6 are made from, see limit.lua, '' for none, '*'
--       where that does not matter  17 nano-dollars, 18 tokens that it may take where the model
--       ignores its limit, '' where the limit is known to hold or to be broken  19 most ms of a turn
-- Returns {'admitted', ''}, {'admitted', 'turn'} where the call has the model's turn now,
--       {'limit', the record} where that is another, {'turn', ''} where another call has the turn,
--       {'replan', version of the policy in force}, {'lost', ''} where the task
--       runs elsewhere, or {'over', refusal as parts/limits.lua has it}; nothing was written then
--
-- Invariant: settled and held never pass a limit, in any scope and window; what the task has spent
-- and bound never passes its own. What the reservation has free is taken first, the rest is held
-- beside it. The same step sent again is admitted once, and not again once it is settled. While nobody
-- knows whether a model keeps its limit, all of its calls under way would fit the limits if none did,
-- or one is under way at a time.

-- include time
-- include windows
-- include book
-- include limits
-- include reservation

local id, call = ARGV[1], ARGV[3]
local task = redis.call('HMGET', KEYS[1], 'state', 'fence', 'open', 'call:' .. call,
  'cost_nanodollars', 'input_tokens', 'output_tokens', 'steps')
if task[1] ~= 'running' or task[2] ~= ARGV[2] then
  return {'lost', ''}
end
local turn = 'turn|' .. ARGV[15]
local until_ms, taken = string.match(redis.call('HGET', KEYS[6], turn) or '', '^(%d+) (.*)$')
local is_mine = taken == id .. ' ' .. call
if task[4] or redis.call('HEXISTS', KEYS[5], id .. ' ' .. call) == 1 then
  return {'admitted', is_mine and 'turn' or ''}
end
local version = redis.call('HGET', KEYS[2], 'version') or '0'
if version ~= ARGV[4] then
  return {'replan', version}
end
local names = {ARGV[13], ARGV[14], ARGV[15]}
local scopes, packed_names = scopes_of(names), cjson.encode(names)
local record = redis.call('HGET', KEYS[6], 'limit|' .. ARGV[15]) or ''
if ARGV[16] ~= '*' and record ~= ARGV[16] then
  return {'limit', record}
end
local need = {tonumber(ARGV[5]), tonumber(ARGV[6]), 1}
local spent = {(task[5] or 0) + 0, (task[6] or 0) + (task[7] or 0), (task[8] or 0) + 0}
local bound = bound_by(KEYS[5], id, task[3])
for number, most in string.gmatch(ARGV[7], 't(.)=([^;]+)') do
  local quantity, limit = tonumber(number), tonumber(most)
  local asked = need[quantity]
  if asked > 0 and spent[quantity] + bound[quantity] + asked > limit then
    local used, held = spent[quantity], bound[quantity]
    return {'over', told({'task', 't', quantity, limit, used, held, asked, -1})}
  end
end

local book, windows = open_book(KEYS[3]), windows_of(now / 1000)
local found = reservation_of(KEYS[4], id)
local free = found and found.amounts or {0, 0, 0}
local moves = found and found.packed_names ~= packed_names
if found then
  hold(book, scopes_of(found.names), {-free[1], -free[2], -free[3], -1})
end
local refusal = refusal_of(book, scopes, {unpack(ARGV, 9, 12)},
  {need[1], need[2], 1, found and 0 or 1}, windows, now)
-- The task is among those of everything, its tenant and its agent type already; not of the model.
if not refusal and moves then
  refusal = refusal_of(book, {scopes[4]}, {ARGV[12]}, {0, 0, 0, 1}, windows, now)
end
if refusal then
  return {'over', told(refusal)}
end
if ARGV[17] ~= '' then
  local calls = read(book, 'held ' .. scopes[4])[3] + 1
  local widest = {calls * ARGV[17], calls * ARGV[18], 0, 0}
  if refusal_of(book, scopes, {unpack(ARGV, 9, 12)}, widest, windows, now) then
    if taken and not is_mine and tonumber(until_ms) > now then
      return {'turn', ''}
    end
    is_mine = true
    redis.call('HSET', KEYS[6], turn, string.format('%.0f %s %s', now + ARGV[19], id, call))
  end
end
hold(book, scopes, {need[1], need[2], need[3], 1})

-- What stays free was held before: only the model's own limits may know nothing of it.
local rest = {}
for i = 1, 3 do
  rest[i] = math.max(0, free[i] - need[i])
end
if refusal_of(book, {scopes[4]}, {ARGV[12]}, {rest[1], rest[2], rest[3], 0}, windows, now) then
  rest = {0, 0, 0}
end
hold(book, scopes, rest)
close_book(book)
redis.call('HSET', KEYS[4], id, packed_amounts(rest, packed_names))
redis.call('HSET', KEYS[5], id .. ' ' .. call,
  packed_amounts(need, packed_names) .. '\n' .. ARGV[8])
redis.call('HSET', KEYS[1], 'open', task[3] and task[3] .. ' ' .. call or call)
return {'admitted', is_mine and 'turn' or ''}
