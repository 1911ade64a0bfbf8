-- What is held for a task: in one hash what is free for its next steps, in another what is bound
-- by the steps that are under way. The scopes hold the sum of both.
--   reservations  TASK        nano-dollars,tokens,requests,["tenant","agent type","model"]
--   open steps    TASK CALL   the same, a line break, and as JSON what to write should the step be
--                             lost: {"entry": [names and values], "step": "..."}
-- The names of a task's open steps are in its record too, field `open`. Needs book and windows.

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

-- Hold what a task asks for, for its tenant, agent type and model.
local function reserve(book, reservations, id, names, asked)
  hold(book, scopes_of(names), asked)
  redis.call('HSET', reservations, id, packed_amounts(asked, cjson.encode(names)))
end

-- Give back what is free, and the task's place among those that have not ended.
local function release(book, reservations, id)
  local found = reservation_of(reservations, id)
  if not found then
    return
  end
  local free = found.amounts
  hold(book, scopes_of(found.names), {-free[1], -free[2], -free[3], -1})
  redis.call('HDEL', reservations, id)
end

-- What a task's open steps bind together.
local function bound_by(open_steps, id, open)
  local sum = {0, 0, 0}
  for call in string.gmatch(open or '', '%S+') do
    local packed = redis.call('HGET', open_steps, id .. ' ' .. call)
    local amounts = packed and parsed_amounts(packed).amounts or {0, 0, 0}
    for i = 1, 3 do
      sum[i] = sum[i] + amounts[i]
    end
  end
  return sum
end

local function take_open(record, open_steps, id, call)
  local field = id .. ' ' .. call
  local packed = redis.call('HGET', open_steps, field)
  if not packed then
    return nil
  end
  redis.call('HDEL', open_steps, field)
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

local steps_kept = 50

-- Keep a step with its task. All are counted, and the first ones kept.
local function keep_step(record, step, now)
  local number = redis.call('HINCRBY', record, 'steps', 1)
  if number <= steps_kept then
    redis.call('HSET', record, 'step:' .. number, string.format('%.0f ', now) .. step)
  end
end

-- Charge a step the worst that it may have cost, and give back what was bound for it. Gives the
-- ledger's entry.
local function charge_at_worst(ledger, book, step, lost, windows, minute)
  local scopes = scopes_of(step.names)
  hold(book, scopes, negative(step.amounts))
  settle(book, scopes, windows, minute, minute, step.amounts)
  return redis.call('XADD', ledger, '*', 'windows', table.concat(windows, ','),
    unpack(lost.entry))
end

-- Charge the steps of a run that has ended, or died, without saying what they used: the worst
-- they may have cost. `lost:CALL` remembers it, for the usage may be seen after all.
local function charge_open_steps(record, ledger, book, open_steps, id, now)
  local open = redis.call('HGET', record, 'open')
  if not open then
    return
  end
  local seconds = math.floor(now / 1000)
  local windows, minute = windows_of(seconds), math.floor(seconds / 60)
  for call in string.gmatch(open, '%S+') do
    local step = take_open(record, open_steps, id, call)
    local lost = cjson.decode(step.lost)
    local entry = charge_at_worst(ledger, book, step, lost, windows, minute)
    local charged = string.format('%.0f', step.amounts[1])
    redis.call('HSET', record, 'call:' .. call, charged, 'lost:' .. call,
      string.format('%s %s %.0f %s', entry, charged, minute, table.concat(windows, ',')))
    keep_step(record, lost.step, now)
    redis.call('HINCRBY', record, 'input_tokens', lost.input)
    redis.call('HINCRBY', record, 'output_tokens', lost.output)
    redis.call('HINCRBY', record, 'uncertain_calls', 1)
    redis.call('HINCRBY', record, 'cost_nanodollars', charged)
  end
end
