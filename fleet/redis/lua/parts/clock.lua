-- By how many ms the server's clock was set since the caller has looked; 0 for no more than may be.
local function clock_step(expected, most)
  local step = now - (tonumber(expected) or now)
  return math.abs(step) > tonumber(most) and step or 0
end

-- Let no lease end for so many ms from now.
local function hold_expiry(key, ms)
  redis.call('SET', key, now + ms, 'PX', ms)
end

-- Whether no lease may end now. A time that lies further ahead is of before the clock was set back.
local function expiry_is_held(key, ms)
  local until_ms = tonumber(redis.call('GET', key) or 0)
  return until_ms > now and until_ms <= now + ms
end
