-- Drop old fields from a page of the book of money.
--
-- KEYS  1 money
-- ARGV  1 where the page begins, '0' at first  2 about how many fields it has
--       3 days for which hours are kept, and 4 days
-- Returns {where the next page begins, '0' after the last, how many fields were dropped}
--
-- Invariant: judged by the server's clock, so that no window that counts is ever dropped: only hours
-- and days that ended so long ago, minutes that have left the last 60 with what the sum of those has
-- of them, and what says that nothing is held. No limit sees another sum than before.

-- include time
-- include windows
-- include book

local seconds = math.floor(now / 1000)
local minute = math.floor(seconds / 60)
local oldest = {
  h = windows_of(seconds - ARGV[3] * 86400)[1],
  d = windows_of(seconds - ARGV[4] * 86400)[2]
}
local before = redis.call('HLEN', KEYS[1])

-- The minutes that have left the last 60; and their sum, where none are left.
local function drop_minutes(field, scope)
  local book = open_book(KEYS[1])
  local total = rolling(book, scope, minute)
  close_book(book)
  if total[4] == 0 and total[1] == 0 and total[2] == 0 and total[3] == 0 then
    redis.call('HDEL', KEYS[1], field)
  end
end

local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for i = 1, #page[2], 2 do
  local field, packed = page[2][i], page[2][i + 1]
  local window, scope = string.match(field, '^(%S+) (.*)$')
  local kept_from = oldest[string.sub(window, 1, 1)]
  if window == 'r' then
    drop_minutes(field, scope)
  elseif window == 'held' and packed == '0,0,0,0'
    or window ~= 'held' and kept_from and window < kept_from then
    redis.call('HDEL', KEYS[1], field)
  end
end
return {page[1], before - redis.call('HLEN', KEYS[1])}
