-- Drop old fields from a page of the usage counters.
--
-- KEYS  1 usage counters
-- ARGV  1 where the page begins, '0' at first  2 about how many fields it has
--       3 days for which hours are kept, and 4 days
-- Returns {where the next page begins, '0' after the last, how many fields were dropped}
--
-- Invariant: the server's clock decides, so no window that counts is ever dropped: only hours
-- and days that ended long enough ago, minutes older than the last 60 (their amounts leave the sum of
-- the last 60 with them), and fields that hold nothing. No limit sees another sum than before.

-- include groups

local money = unpack(KEYS)
local cursor, page_size, days_of_hours, days_of_days = unpack(ARGV)

-- include time
-- include windows
-- include usage_counters

local seconds = math.floor(now / 1000)
local minute = math.floor(seconds / 60)
local oldest = {
  h = windows_of(seconds - days_of_hours * 86400)[1],
  d = windows_of(seconds - days_of_days * 86400)[2]
}
local before = redis.call('HLEN', money)

-- Drop the minutes that have left the last 60; and their sum, where none are left.
local function drop_minutes(field, scope)
  local counters = open_counters(money)
  local total = rolling(counters, scope, minute)
  close_counters(counters)
  if total[4] == 0 and total[1] == 0 and total[2] == 0 and total[3] == 0 then
    redis.call('HDEL', money, field)
  end
end

local next_cursor, page = unpack(redis.call('HSCAN', money, cursor, 'COUNT', page_size))
for field, packed in groups(page, 1, 2) do
  local window, scope = string.match(field, '^(%S+) (.*)$')
  local kept_from = oldest[string.sub(window, 1, 1)]
  if window == 'r' then
    drop_minutes(field, scope)
  elseif window == 'held' and packed == '0,0,0,0'
    or window ~= 'held' and kept_from and window < kept_from then
    redis.call('HDEL', money, field)
  end
end
return {next_cursor, before - redis.call('HLEN', money)}
