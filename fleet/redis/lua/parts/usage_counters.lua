-- The usage counters: one hash that has for each scope what it has spent and what it holds.
--
--   hYYYYMMDDHH SCOPE, dYYYYMMDD SCOPE, mYYYYMM SCOPE   settled in a UTC hour, day or month
--   r SCOPE           settled in the last 60 minutes, first minute of that, last minute of that
--   rMINUTE SCOPE     settled in one of those minutes
--   held SCOPE        held for tasks that have not ended, and the number of those tasks
--
-- Each value is nano-dollars,tokens,requests and the further numbers named above. A held amount
-- counts in every window, because it may be settled in this window or in a later one. So nothing
-- has to be moved when a window turns. Lua counts exactly to 2^53 nano-dollars: 9 million dollars
-- for each window.
--
-- A script opens the counters, reads and adds in memory, and closes them with one write. A script
-- that does not close them writes nothing.

local function open_counters(key)
  return {key = key, found = {}, limits = {}, changed = {}, dropped = {}}
end

local function numbers(packed)
  if not packed then
    return {0, 0, 0, 0, 0}
  end
  local a, b, c, d, e = string.match(packed, '^([^,]+),([^,]+),([^,]+),?([^,]*),?(.*)$')
  return {tonumber(a), tonumber(b), tonumber(c), tonumber(d) or 0, tonumber(e) or 0}
end

local function read(counters, field)
  local found = counters.found[field]
  if not found then
    found = numbers(redis.call('HGET', counters.key, field))
    counters.found[field] = found
  end
  return found
end

-- The formats of the fields. Lua's %d is exact to 2^63, and quicker than %.0f.
local as_settled, as_held, as_rolling = '%d,%d,%d', '%d,%d,%d,%d', '%d,%d,%d,%d,%d'

local function add(counters, field, amounts, form)
  local found = read(counters, field)
  for i = 1, #amounts do
    found[i] = found[i] + amounts[i]
  end
  counters.changed[field] = form
end

local function close_counters(counters)
  local fields, n = {}, 0
  for field, form in pairs(counters.changed) do
    local found = counters.found[field]
    fields[n + 1] = field
    fields[n + 2] = string.format(form, found[1], found[2], found[3], found[4], found[5])
    n = n + 2
  end
  if n > 0 then
    redis.call('HSET', counters.key, unpack(fields))
  end
  if #counters.dropped > 0 then
    redis.call('HDEL', counters.key, unpack(counters.dropped))
  end
end

-- The scopes of {tenant, agent type, model}.
local function scopes_of(names)
  return {'all', 'tenant:' .. names[1], 'agent_type:' .. names[2], 'model:' .. names[3]}
end

local function hold(counters, scopes, amounts)
  for _, scope in ipairs(scopes) do
    add(counters, 'held ' .. scope, amounts, as_held)
  end
end

local function negative(amounts)
  local found = {}
  for i, amount in ipairs(amounts) do
    found[i] = -amount
  end
  return found
end

-- The sum of the last 60 minutes and of the part of a minute before them. So no 60 minutes ever
-- have more than a limit, wherever they begin.
local function rolling(counters, scope, minute)
  local total = read(counters, 'r ' .. scope)
  local oldest = minute - 60
  if total[4] == 0 or total[4] >= oldest then
    return total
  end
  local fields = {}
  for old = total[4], math.min(total[5], oldest - 1) do
    fields[#fields + 1] = string.format('r%.0f %s', old, scope)
  end
  for _, field in ipairs(fields) do
    local gone = read(counters, field)
    for i = 1, 3 do
      total[i] = total[i] - gone[i]
    end
    counters.changed[field] = nil
    counters.dropped[#counters.dropped + 1] = field
  end
  total[4] = total[5] < oldest and 0 or oldest
  counters.changed['r ' .. scope] = as_rolling
  return total
end

-- Count an amount that was spent in the minute `at`, where the last 60 minutes still have it.
local function roll(counters, scope, minute, at, amounts)
  local total = rolling(counters, scope, minute)
  if at < minute - 60 then
    return
  end
  total[4] = total[4] == 0 and at or math.min(total[4], at)
  total[5] = math.max(total[5], at)
  add(counters, 'r ' .. scope, amounts, as_rolling)
  add(counters, string.format('r%.0f %s', at, scope), amounts, as_settled)
end

-- Settle an amount that was spent in the minute `at`, since 1970. `windows` are those that count
-- the amount.
local function settle(counters, scopes, windows, minute, at, amounts)
  for _, scope in ipairs(scopes) do
    for _, window in ipairs(windows) do
      add(counters, window .. ' ' .. scope, amounts, as_settled)
    end
    roll(counters, scope, minute, at, amounts)
  end
end
