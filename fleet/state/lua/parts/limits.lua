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

local function fields_of(scope, limits, windows)
  local fields = {'held ' .. scope}
  for letter in string.gmatch(limits, '(%a)%d=') do
    fields[#fields + 1] = letter == 'r' and 'r ' .. scope
      or window_of[letter] and windows[window_of[letter]] .. ' ' .. scope or nil
  end
  return fields
end

-- Whether what is asked for fits every limit of the scopes. Gives nil where it does, else the
-- refusal that lasts longest; and the largest share of a limit of dollars that would be used.
--   {scope, window, quantity, limit, settled, held, asked for, ms until it may fit, -1 for never}
local function refusal_of(book, scopes, limits, asked, windows, ms)
  local minute = math.floor(ms / 60000)
  local refusal, share = nil, 0
  for s, scope in ipairs(scopes) do
    for letter, quantity, most in string.gmatch(limits[s], '(%a)(%d)=(%d+)') do
      quantity, most = tonumber(quantity), tonumber(most)
      local wanted = asked[quantity]
      if wanted > 0 then
        local settled = letter == 'c' and 0
          or letter == 'r' and rolling(book, scope, minute)[quantity]
          or read(book, windows[window_of[letter]] .. ' ' .. scope)[quantity]
        local held = read(book, 'held ' .. scope)[quantity]
        local used = settled + held + wanted
        if quantity == 1 then
          share = math.max(share, used / most)
        end
        if used > most then
          local wait = wanted > most and -1
            or letter == 'c' and 1000
            or letter == 'r' and rolls_in(book, scope, quantity, used - most, minute, ms)
            or turns_in(letter, windows, ms)
          if not refusal or refusal[8] ~= -1 and (wait == -1 or wait > refusal[8]) then
            refusal = {scope, letter, quantity, most, settled, held, wanted, wait}
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
