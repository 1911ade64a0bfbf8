-- Limits, as the caller has them of its policy: WINDOW QUANTITY=MOST, with ; between.
--   windows     h, d, m: UTC hour, day, month; r: the last 60 minutes; c: what is held now
--   quantities  1: nano-dollars, 2: tokens, 3: requests, 4: tasks
-- Needs book, time and windows.

local window_of = {h = 1, d = 2, m = 3}

-- Ms until a window turns.
local function turns_in(letter, windows, ms)
  if letter == 'h' then
    return 3600000 - ms % 3600000
  elseif letter == 'd' then
    return 86400000 - ms % 86400000
  end
  -- The month's id a day at a time: its length is nowhere else.
  local ahead = 86400000 - ms % 86400000
  while windows_of((ms + ahead) / 1000)[3] == windows[3] do
    ahead = ahead + 86400000
  end
  return ahead
end

-- Ms until so much of the last 60 minutes has gone by that the excess has room.
local function rolls_in(book, scope, quantity, excess, minute, ms)
  local total = rolling(book, scope, minute)
  for at = total[4], total[4] == 0 and -1 or total[5] do
    excess = excess - read(book, string.format('r%.0f %s', at, scope))[quantity]
    if excess <= 0 then
      return (at + 61) * 60000 - ms
    end
  end
  return 3600000
end

-- What is only held, not spent, may come free at any moment: a run takes less than its worst.
local held_ms = 10000

local settled_pattern = {'^([^,]+)', '^[^,]+,([^,]+)', '^[^,]+,[^,]+,([^,]+)'}

-- Read what scopes hold, and what their limits are held against, in one call. A scope's limits are
-- then a list in the book: letter, quantity, most, settled, and so on. Nothing is settled by the
-- scripts that look at limits, so the list stays true while they run.
local function read_limits(book, scopes, limits, windows)
  local fields, n, fresh = {}, 0, {}
  for s = 1, #scopes do
    local scope = scopes[s]
    if not book.limits[scope] then
      local list, m, tail = {}, 0, ' ' .. scope
      n = n + 1
      fields[n] = 'held' .. tail
      for letter, quantity, most in string.gmatch(limits[s], '(.)(.)=([^;]+)') do
        local window = window_of[letter]
        list[m + 1], list[m + 2], list[m + 3], list[m + 4] = letter, quantity + 0, most + 0, 0
        m = m + 4
        if window then
          n = n + 1
          fields[n] = windows[window] .. tail
        end
      end
      fresh[#fresh + 1], book.limits[scope] = scope, list
    end
  end
  if n == 0 then
    return
  end
  local answers, at = redis.call('HMGET', book.key, unpack(fields)), 0
  for f = 1, #fresh do
    local scope = fresh[f]
    local list = book.limits[scope]
    at = at + 1
    book.found[fields[at]] = book.found[fields[at]] or numbers(answers[at])
    for m = 1, #list, 4 do
      if window_of[list[m]] then
        at = at + 1
        local packed = answers[at]
        if packed then
          list[m + 3] = string.match(packed, settled_pattern[list[m + 1]]) + 0
        end
      end
    end
  end
end

-- Whether what is asked for fits every limit of the scopes. Gives nil where it does, else the
-- refusal that lasts longest; and the largest share of a limit of dollars that would be used.
--   {scope, window, quantity, limit, settled, held, asked for, ms until it may fit, -1 for never}
local function refusal_of(book, scopes, limits, asked, windows, ms)
  read_limits(book, scopes, limits, windows)
  local minute = math.floor(ms / 60000)
  local refusal, share = nil, 0
  for _, scope in ipairs(scopes) do
    local list, held = book.limits[scope], read(book, 'held ' .. scope)
    for m = 1, #list, 4 do
      local letter, quantity, most = list[m], list[m + 1], list[m + 2]
      local wanted = asked[quantity]
      if wanted > 0 then
        local settled = letter == 'r' and rolling(book, scope, minute)[quantity] or list[m + 3]
        local used = settled + held[quantity] + wanted
        if quantity == 1 and used > share * most then
          share = used / most
        end
        if used > most then
          local wait = wanted > most and -1
            or letter == 'c' and 1000
            or letter == 'r' and rolls_in(book, scope, quantity, used - most, minute, ms)
            or turns_in(letter, windows, ms)
          if settled + wanted <= most then
            wait = math.min(wait, held_ms)
          end
          if not refusal or refusal[8] ~= -1 and (wait == -1 or wait > refusal[8]) then
            refusal = {scope, letter, quantity, most, settled, held[quantity], wanted, wait}
          end
        end
      end
    end
  end
  return refusal, share
end

local function told(refusal)
  local found = {refusal[1], refusal[2]}
  for i = 3, 8 do
    found[i] = string.format('%.0f', refusal[i])
  end
  return table.concat(found, '|')
end
