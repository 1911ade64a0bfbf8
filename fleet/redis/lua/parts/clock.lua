-- How many ms the server's clock was set by since the caller last looked; 0 where the difference is
-- within the tolerance. `expected` is the time that the caller expects, '' where it has none.
local function clock_step(expected, tolerance_ms)
  local step = now - (tonumber(expected) or now)
  return math.abs(step) > tonumber(tolerance_ms) and step or 0
end

-- Let no lease end during the next `ms`.
local function hold_expiry(key, ms)
  redis.call('SET', key, now + ms, 'PX', ms)
end

-- Whether no lease may end now. A time that lies further ahead was written before the clock was set
-- back.
local function expiry_is_held(key, ms)
  local until_ms = tonumber(redis.call('GET', key) or 0)
  return until_ms > now and until_ms <= now + ms
end
