-- Whether amounts fit every limit in its window. The caller passes the limits of its policy as
-- WINDOW QUANTITY=LIMIT, with ; between.
--   windows     h, d, m: UTC hour, day, month; r: the last 60 minutes; c: the amount held now
--   quantities  1: nano-dollars, 2: tokens, 3: requests, 4: tasks
-- Needs usage_counters, time and windows.

local window_of = {h = 1, d = 2, m = 3}

-- Ms until a window turns.
local function turns_in(letter, windows, ms)
  if letter == 'h' then
    return 3600000 - ms % 3600000
  elseif letter == 'd' then
    return 86400000 - ms % 86400000
  end
  -- Look at the id of the month a day at a time: nothing else here knows how long a month is.
  local ahead = 86400000 - ms % 86400000
  while windows_of((ms + ahead) / 1000)[3] == windows[3] do
    ahead = ahead + 86400000
  end
  return ahead
end

-- Ms until the excess has room, because enough of the last 60 minutes' amounts are older by then.
local function rolls_in(counters, scope, quantity, excess, minute, ms)
  local total = rolling(counters, scope, minute)
  for at = total[4], total[4] == 0 and -1 or total[5] do
    excess = excess - read(counters, string.format('r%.0f %s', at, scope))[quantity]
    if excess <= 0 then
      return (at + 61) * 60000 - ms
    end
  end
  return 3600000
end

-- An amount that is only held may come free at any moment: a run takes less than its upper bound.
local held_ms = 10000

local settled_pattern = {'^([^,]+)', '^[^,]+,([^,]+)', '^[^,]+,[^,]+,([^,]+)'}

-- Read in one call what scopes hold and what is settled in the windows of their limits. A scope's
-- limits are then a list in the counters: letter, quantity, limit, settled, and so on. Scripts that
-- look at limits settle nothing, so the list stays true while they run.
local function read_limits(counters, scopes, limits, windows)
  local fields, n, fresh = {}, 0, {}
  for s = 1, #scopes do
    local scope = scopes[s]
    if not counters.limits[scope] then
      local list, m, tail = {}, 0, ' ' .. scope
      n = n + 1
      fields[n] = 'held' .. tail
      for letter, quantity, limit in string.gmatch(limits[s], '(.)(.)=([^;]+)') do
        local window = window_of[letter]
        list[m + 1], list[m + 2], list[m + 3], list[m + 4] = letter, quantity + 0, limit + 0, 0
        m = m + 4
        if window then
          n = n + 1
          fields[n] = windows[window] .. tail
        end
      end
      fresh[#fresh + 1], counters.limits[scope] = scope, list
    end
  end
  if n == 0 then
    return
  end
  local answers, at = redis.call('HMGET', counters.key, unpack(fields)), 0
  for f = 1, #fresh do
    local scope = fresh[f]
    local list = counters.limits[scope]
    at = at + 1
    counters.found[fields[at]] = counters.found[fields[at]] or numbers(answers[at])
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

-- Whether the requested amounts fit every limit of the scopes. Returns nil where they do, else the
-- refusal that lasts longest; and the largest share of a limit of dollars that would be used.
-- `wait_ms` of a refusal is the time until the amounts may fit, -1 for never.
local function refusal_of(counters, scopes, limits, asked, windows, ms)
  read_limits(counters, scopes, limits, windows)
  local minute = math.floor(ms / 60000)
  local refusal, share = nil, 0
  for _, scope in ipairs(scopes) do
    local list, held = counters.limits[scope], read(counters, 'held ' .. scope)
    for m = 1, #list, 4 do
      local letter, quantity, limit = list[m], list[m + 1], list[m + 2]
      local wanted = asked[quantity]
      if wanted > 0 then
        local settled = letter == 'r' and rolling(counters, scope, minute)[quantity] or list[m + 3]
        local used = settled + held[quantity] + wanted
        if quantity == 1 and used > share * limit then
          share = used / limit
        end
        if used > limit then
          local wait = wanted > limit and -1
            or letter == 'c' and 1000
            or letter == 'r' and rolls_in(counters, scope, quantity, used - limit, minute, ms)
            or turns_in(letter, windows, ms)
          if settled + wanted <= limit then
            wait = math.min(wait, held_ms)
          end
          local longest = refusal and refusal.wait_ms
          if not refusal or longest ~= -1 and (wait == -1 or wait > longest) then
            refusal = {
              scope = scope, window = letter, quantity = quantity, limit = limit,
              settled = settled, held = held[quantity], requested = wanted, wait_ms = wait
            }
          end
        end
      end
    end
  end
  return refusal, share
end

-- A refusal as one string: its fields in the order of the map above, with | between.
local function described(refusal)
  return string.format('%s|%s|%.0f|%.0f|%.0f|%.0f|%.0f|%.0f', refusal.scope, refusal.window,
    refusal.quantity, refusal.limit, refusal.settled, refusal.held, refusal.requested,
    refusal.wait_ms)
end
