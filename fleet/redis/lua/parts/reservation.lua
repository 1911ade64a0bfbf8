-- The amounts held for a task. One hash has what is free for the task's next model calls. Another
-- hash has what the calls in flight bind. The scopes hold the sum of both.
--   reservations  TASK        nano-dollars,tokens,requests,["tenant","agent type","model"]
--   open steps    TASK CALL   the same, a line break, and as JSON what is written should the call be
--                             lost: {"entry": [names and values], "step": "..."}
-- The names of a task's calls in flight are in its record too, field `open`. Needs usage_counters and
-- windows.

local function packed_amounts(amounts, names)
  return string.format('%d,%d,%d,', amounts[1], amounts[2], amounts[3]) .. names
end

local function parsed_amounts(packed)
  local n, t, r, names, rest = string.match(packed, '^(%d+),(%d+),(%d+),([^\n]*)\n?(.*)$')
  return {
    amounts = {tonumber(n), tonumber(t), tonumber(r)}, packed_names = names,
    names = cjson.decode(names), lost = rest
  }
end

local function reservation_of(reservations, id)
  local packed = redis.call('HGET', reservations, id)
  return packed and parsed_amounts(packed)
end

-- Hold the requested amounts of a task for its {tenant, agent type, model}.
local function reserve(counters, reservations, id, names, asked)
  hold(counters, scopes_of(names), asked)
  redis.call('HSET', reservations, id, packed_amounts(asked, cjson.encode(names)))
end

-- Free the task's unused amounts, and its place among the tasks that have not ended.
local function free_reservation(counters, reservations, id)
  local found = reservation_of(reservations, id)
  if not found then
    return
  end
  local nanodollars, tokens, requests = unpack(found.amounts)
  hold(counters, scopes_of(found.names), {-nanodollars, -tokens, -requests, -1})
  redis.call('HDEL', reservations, id)
end

-- The sum of the amounts that a task's calls in flight bind.
local function bound_by(open_calls, id, open)
  local sum = {0, 0, 0}
  for call in string.gmatch(open or '', '%S+') do
    local packed = redis.call('HGET', open_calls, id .. ' ' .. call)
    local amounts = packed and parsed_amounts(packed).amounts or {0, 0, 0}
    for i = 1, 3 do
      sum[i] = sum[i] + amounts[i]
    end
  end
  return sum
end

-- Take a call off those in flight. Returns what it binds, nil where it is not in flight.
local function take_call(record, open_calls, id, call)
  local field = id .. ' ' .. call
  local packed = redis.call('HGET', open_calls, field)
  if not packed then
    return nil
  end
  redis.call('HDEL', open_calls, field)
  local left = {}
  for name in string.gmatch(redis.call('HGET', record, 'open') or '', '%S+') do
    if name ~= call then
      left[#left + 1] = name
    end
  end
  if #left > 0 then
    redis.call('HSET', record, 'open', table.concat(left, ' '))
  else
    redis.call('HDEL', record, 'open')
  end
  return parsed_amounts(packed)
end

local calls_kept = 50

-- Keep a model call with its task. All calls are counted, and the first ones are kept.
local function keep_call(record, packed_call, now)
  local number = redis.call('HINCRBY', record, 'steps', 1)
  if number <= calls_kept then
    redis.call('HSET', record, 'step:' .. number, string.format('%.0f ', now) .. packed_call)
  end
end

-- Charge a call its upper bound, and free what it bound. Returns the id of the ledger's entry.
local function charge_upper_bound(ledger, counters, bound, lost, windows, minute)
  local scopes = scopes_of(bound.names)
  hold(counters, scopes, negative(bound.amounts))
  settle(counters, scopes, windows, minute, minute, bound.amounts)
  return redis.call('XADD', ledger, '*', 'windows', table.concat(windows, ','),
    unpack(lost.entry))
end

-- Charge the calls in flight of a run that has ended, or died, before it reported their usage. Each
-- is charged its upper bound. The field `lost:CALL` remembers the charge, because the usage may be
-- reported later.
local function charge_open_calls(record, ledger, counters, open_calls, id, now)
  local open = redis.call('HGET', record, 'open')
  if not open then
    return
  end
  local seconds = math.floor(now / 1000)
  local windows, minute = windows_of(seconds), math.floor(seconds / 60)
  for call in string.gmatch(open, '%S+') do
    local bound = take_call(record, open_calls, id, call)
    local lost = cjson.decode(bound.lost)
    local entry = charge_upper_bound(ledger, counters, bound, lost, windows, minute)
    local charged = string.format('%.0f', bound.amounts[1])
    redis.call('HSET', record, 'call:' .. call, charged, 'lost:' .. call,
      string.format('%s %s %.0f %s', entry, charged, minute, table.concat(windows, ',')))
    keep_call(record, lost.step, now)
    redis.call('HINCRBY', record, 'input_tokens', lost.input)
    redis.call('HINCRBY', record, 'output_tokens', lost.output)
    redis.call('HINCRBY', record, 'uncertain_calls', 1)
    redis.call('HINCRBY', record, 'cost_nanodollars', charged)
  end
end
