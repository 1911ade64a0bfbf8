-- Admit one model call of a running task: bind its upper bound, or refuse it.
--
-- KEYS  1 task record  2 policy  3 usage counters  4 reservations  5 calls in flight  6 models
--       7 facts, 8 calls, 9 queue of the provider's key, see parts/key_places.lua
-- ARGV  1 task id  2 fence  3 a name for this very call  4 version of the policy that the limits
--       belong to  5 nano-dollars, 6 tokens: the upper bound  7 limits of the task itself, as in
--       parts/limits.lua with the window t  8 what is written should the call be lost, see
--       parts/reservation.lua  9 limits of everything, 10 of the tenant, 11 of the agent type,
--       12 of the model  13 tenant, 14 agent type, 15 model
--       16 the record of the model's limit that the upper bound was made from, see limit.lua, '' for
--       none, '*' where that does not matter  17 nano-dollars, 18 tokens that the call may take where
--       the model ignores its limit, '' where the limit is known to hold or to be broken  19 max ms of
--       a turn  20 id of the provider's key, '' for none  21 the most calls of a model with the key,
--       22 nano-dollars that the key may spend in a UTC day, '' for no such bound  23 ms that a place
--       lasts  24 1 where the call waits for a place
-- Returns {'admitted', ''}, {'admitted', 'turn'} where the call has the model's turn now,
--       {'limit', the record} where that is another, {'turn', ''} where another call has the turn,
--       {'busy', ms} where the key has no place for so long,
--       {'replan', version of the current policy}, {'lost', ''} where the task
--       runs elsewhere, or {'over', refusal, see parts/limits.lua}; nothing was written then
--
-- Invariant: settled and held amounts never pass a limit, in any scope and window. The amounts that the
-- task has spent and bound never pass its own limits. The free part of the reservation is taken first,
-- and the rest is held beside it. The same call sent again is admitted once, and not again once it is
-- settled. While it is not known whether a model keeps its limit, either all of its calls in flight
-- would fit the limits even if none kept it, or one call is in flight at a time. A key has no more calls
-- in flight than its provider allows, and never spends more in a day than it may.

local record, policy, money, reservations, open_calls, models, key_facts, key_calls, key_queue =
  unpack(KEYS)
local id, fence, call, version, nanodollars, tokens, task_limits, if_lost, all_limits,
  tenant_limits, agent_type_limits, model_limits, tenant, agent_type, model, limit_record,
  unlimited_nanodollars, unlimited_tokens, turn_ms, key_id, most_calls, daily_nanodollars, place_ms,
  may_queue = unpack(ARGV)

-- include time
-- include windows
-- include usage_counters
-- include limits
-- include reservation
-- include key_places

local state, newest_fence, open, settled, spent_nanodollars, input_tokens, output_tokens, calls =
  unpack(redis.call('HMGET', record, 'state', 'fence', 'open', 'call:' .. call,
    'cost_nanodollars', 'input_tokens', 'output_tokens', 'steps'))
if state ~= 'running' or newest_fence ~= fence then
  return {'lost', ''}
end
local turn, this_call = 'turn|' .. model, id .. ' ' .. call
local until_ms, taken = string.match(redis.call('HGET', models, turn) or '', '^(%d+) (.*)$')
local is_mine = taken == this_call
if settled or redis.call('HEXISTS', open_calls, this_call) == 1 then
  return {'admitted', is_mine and 'turn' or ''}
end
local current_version = redis.call('HGET', policy, 'version') or '0'
if current_version ~= version then
  return {'replan', current_version}
end
local names = {tenant, agent_type, model}
local scopes, packed_names = scopes_of(names), cjson.encode(names)
local scope_of_model = {scopes[4]}
local function scope_limits()
  return {all_limits, tenant_limits, agent_type_limits, model_limits}
end
local known_limit = redis.call('HGET', models, 'limit|' .. model) or ''
if limit_record ~= '*' and known_limit ~= limit_record then
  return {'limit', known_limit}
end
local need = {tonumber(nanodollars), tonumber(tokens), 1}
local spent = {(spent_nanodollars or 0) + 0, (input_tokens or 0) + (output_tokens or 0),
  (calls or 0) + 0}
local bound = bound_by(open_calls, id, open)
for number, packed in string.gmatch(task_limits, 't(.)=([^;]+)') do
  local quantity, limit = tonumber(number), tonumber(packed)
  local asked = need[quantity]
  if asked > 0 and spent[quantity] + bound[quantity] + asked > limit then
    return {'over', described({
      scope = 'task', window = 't', quantity = quantity, limit = limit,
      settled = spent[quantity], held = bound[quantity], requested = asked, wait_ms = -1
    })}
  end
end

local counters, windows = open_counters(money), windows_of(now / 1000)
local found = reservation_of(reservations, id)
local free = found and found.amounts or {0, 0, 0}
local moves = found and found.packed_names ~= packed_names
if found then
  hold(counters, scopes_of(found.names), {-free[1], -free[2], -free[3], -1})
end
local refusal = refusal_of(counters, scopes, scope_limits(),
  {need[1], need[2], 1, found and 0 or 1}, windows, now)
-- The task counts already in everything, its tenant and its agent type; not in another model.
if not refusal and moves then
  refusal = refusal_of(counters, scope_of_model, {model_limits}, {0, 0, 0, 1}, windows, now)
end
if refusal then
  return {'over', described(refusal)}
end
if key_id ~= '' then
  free_lost_places(key_facts, key_calls, windows[2])
  local key = spend_of(key_facts, windows[2])
  local daily = tonumber(daily_nanodollars)
  if daily and key.spent + key.held + need[1] > daily then
    local wait = need[1] > daily and -1 or turns_in('d', windows, now)
    if key.spent + need[1] <= daily then
      wait = math.min(wait, held_ms)
    end
    return {'over', described({
      scope = 'key:' .. key_id, window = 'd', quantity = 1, limit = daily, settled = key.spent,
      held = key.held, requested = need[1], wait_ms = wait
    })}
  end
  local wait = wait_for_place(key_facts, key_queue, model, this_call, most_calls, may_queue)
  if wait > 0 then
    return {'busy', string.format('%.0f', math.ceil(wait))}
  end
end
if unlimited_nanodollars ~= '' then
  local in_flight = read(counters, 'held ' .. scopes[4])[3] + 1
  local widest = {in_flight * unlimited_nanodollars, in_flight * unlimited_tokens, 0, 0}
  if refusal_of(counters, scopes, scope_limits(), widest, windows, now) then
    if taken and not is_mine and tonumber(until_ms) > now then
      return {'turn', ''}
    end
    is_mine = true
    redis.call('HSET', models, turn, string.format('%.0f %s', now + turn_ms, this_call))
  end
end
if key_id ~= '' then
  local place = place_of(model, nanodollars, this_call)
  take_place(key_facts, key_calls, key_queue, model, this_call, place, tonumber(place_ms))
end
hold(counters, scopes, {need[1], need[2], need[3], 1})

-- The amounts that stay free were held before. Only the model's own limits may not count them yet.
local rest = {}
for i = 1, 3 do
  rest[i] = math.max(0, free[i] - need[i])
end
if refusal_of(counters, scope_of_model, {model_limits}, {rest[1], rest[2], rest[3], 0}, windows,
  now) then
  rest = {0, 0, 0}
end
hold(counters, scopes, rest)
close_counters(counters)
redis.call('HSET', reservations, id, packed_amounts(rest, packed_names))
redis.call('HSET', open_calls, this_call, packed_amounts(need, packed_names) .. '\n' .. if_lost)
redis.call('HSET', record, 'open', open and open .. ' ' .. call or call)
return {'admitted', is_mine and 'turn' or ''}
