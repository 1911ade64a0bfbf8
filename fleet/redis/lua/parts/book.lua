-- The book of money: one hash that says of each scope what it has spent and what it holds.
--
--   hYYYYMMDDHH SCOPE, dYYYYMMDD SCOPE, mYYYYMM SCOPE   settled in a UTC hour, day or month
--   r SCOPE           settled in the last 60 minutes, first minute of that, last minute of that
--   rMINUTE SCOPE     settled in one of those minutes
--   held SCOPE        held for tasks that have not ended, and how many tasks those are
--
-- Each value is nano-dollars,tokens,requests and what else is said above. What is held counts in
-- every window, for it may be settled in this one or in one to come: so nothing has to be moved
-- when a window turns. Lua counts exactly to 2^53 nano-dollars, 9 million dollars a window.
--
-- A script opens the book, reads and adds in memory, and closes it with one write, or lets it be.

local function open_book(key)
  return {key = key, found = {}, limits = {}, changed = {}, dropped = {}}
end

local function numbers(packed)
  if not packed then
    return {0, 0, 0, 0, 0}
  end
  local a, b, c, d, e = string.match(packed, '^([^,]+),([^,]+),([^,]+),?([^,]*),?(.*)$')
  return {tonumber(a), tonumber(b), tonumber(c), tonumber(d) or 0, tonumber(e) or 0}
end

local function read(book, field)
  local found = book.found[field]
  if not found then
    found = numbers(redis.call('HGET', book.key, field))
    book.found[field] = found
  end
  return found
end

-- What a field is written as. Lua's %d is exact to 2^63, and quicker than %.0f.
local as_settled, as_held, as_rolling = '%d,%d,%d', '%d,%d,%d,%d', '%d,%d,%d,%d,%d'

local function add(book, field, amounts, form)
  local found = read(book, field)
  for i = 1, #amounts do
    found[i] = found[i] + amounts[i]
  end
  book.changed[field] = form
end

local function close_book(book)
  local fields, n = {}, 0
  for field, form in pairs(book.changed) do
    local found = book.found[field]
    fields[n + 1] = field
    fields[n + 2] = string.format(form, found[1], found[2], found[3], found[4], found[5])
    n = n + 2
  end
  if n > 0 then
    redis.call('HSET', book.key, unpack(fields))
  end
  if #book.dropped > 0 then
    redis.call('HDEL', book.key, unpack(book.dropped))
  end
end

local function scopes_of(names)
  return {'all', 'tenant:' .. names[1], 'agent_type:' .. names[2], 'model:' .. names[3]}
end

local function hold(book, scopes, amounts)
  for _, scope in ipairs(scopes) do
    add(book, 'held ' .. scope, amounts, as_held)
  end
end

local function negative(amounts)
  local found = {}
  for i, amount in ipairs(amounts) do
    found[i] = -amount
  end
  return found
end

-- What was settled in the last 60 minutes, and in the part of a minute before them: so no 60
-- minutes ever have more than a limit, wherever they begin.
local function rolling(book, scope, minute)
  local total = read(book, 'r ' .. scope)
  local oldest = minute - 60
  if total[4] == 0 or total[4] >= oldest then
    return total
  end
  local fields = {}
  for old = total[4], math.min(total[5], oldest - 1) do
    fields[#fields + 1] = string.format('r%.0f %s', old, scope)
  end
  for _, field in ipairs(fields) do
    local gone = read(book, field)
    for i = 1, 3 do
      total[i] = total[i] - gone[i]
    end
    book.changed[field] = nil
    book.dropped[#book.dropped + 1] = field
  end
  total[4] = total[5] < oldest and 0 or oldest
  book.changed['r ' .. scope] = as_rolling
  return total
end

-- Count what was spent in a minute, where the last 60 still have it.
local function roll(book, scope, minute, at, amounts)
  local total = rolling(book, scope, minute)
  if at < minute - 60 then
    return
  end
  total[4] = total[4] == 0 and at or math.min(total[4], at)
  total[5] = math.max(total[5], at)
  add(book, 'r ' .. scope, amounts, as_rolling)
  add(book, string.format('r%.0f %s', at, scope), amounts, as_settled)
end

-- `at` is the minute, since 1970, that it was spent in, and `windows` are those that count it.
local function settle(book, scopes, windows, minute, at, amounts)
  for _, scope in ipairs(scopes) do
    for _, window in ipairs(windows) do
      add(book, window .. ' ' .. scope, amounts, as_settled)
    end
    roll(book, scope, minute, at, amounts)
  end
end
