-- What a scope has spent in a window, one field of the scope's hash:
--   settled,reserved,tokens settled,tokens reserved,requests
-- Amounts are nano-dollars. Lua counts exactly to 2^53 of them, 9 million dollars a window.

local function settle(counters, windows, amount, tokens, requests)
  local packed = redis.call('HMGET', counters, unpack(windows))
  local fields = {}
  for i, window in ipairs(windows) do
    local settled, reserved, used, held, asked =
      string.match(packed[i] or '0,0,0,0,0', '^(-?%d+),(%d+),(%d+),(%d+),(%d+)$')
    fields[2 * i - 1] = window
    fields[2 * i] = string.format('%.0f,%s,%.0f,%s,%.0f', settled + amount, reserved,
      used + tokens, held, asked + requests)
  end
  redis.call('HSET', counters, unpack(fields))
end
