-- The outcomes of a pool, over all its tasks and for each request type:
--   stat, stat:TYPE      last ms,outcomes,successes,response,failures in a row,typical response
--   window, window:TYPE  the last outcomes, 1 or 0 each, newest first
-- outcomes and successes always equal the counts in the window. response is the moving average
-- r <- 0.1 x latest + 0.9 x r, from the first one on. For each whole half-life without an
-- outcome the window is halved, and the old average counts half as much. The typical response is
-- the geometric mean. The newest of n runs weighs 1/n in it, and 2 % at least. Needs health.

-- An answer that did not pass its check is no success. The pool did its part all the same, so the
-- answer neither adds to the failures in a row nor ends them. `kept` is the size of the window.
local function count(facts, suffix, state, seconds, now, kept, half_life)
  local success = state == 'succeeded'
  local statistic, window =
    unpack(redis.call('HMGET', facts, 'stat' .. suffix, 'window' .. suffix))
  local last, outcomes, successes, response, failures, typical =
    string.match(statistic or '', '^(%d+),(%d+),(%d+),([^,]+),(%d+),([^,]+)$')
  local keep = 0
  window = window or ''
  if last then
    local left = 0.5 ^ math.floor(math.max(0, now - tonumber(last)) / half_life)
    window = string.sub(window, 1, math.floor(#window * left))
    failures = left == 1 and tonumber(failures) or 0
    keep = 0.9 * left
  end
  response = (1 - keep) * seconds + keep * (tonumber(response) or 0)
  window = string.sub((success and '1' or '0') .. window, 1, kept)
  local _, good = string.gsub(window, '1', '')
  local latest = math.log(math.max(seconds, 0.001))
  local known = typical and math.log(tonumber(typical)) or latest
  typical = math.exp(known + math.max(1 / #window, 0.02) * (latest - known))
  redis.call('HSET', facts, 'window' .. suffix, window, 'stat' .. suffix, string.format(
    '%.0f,%d,%d,%.6f,%d,%.6f', now, #window, good, response,
    success and 0 or (failures or 0) + (state == 'unverified' and 0 or 1), typical))
end

-- Apply an outcome to the health of a pool that is ejected or returning: see parts/health.lua. The
-- last good probe drops the old outcomes, which would eject the pool again.
local function move_health(facts, state, now)
  local success = state ~= 'failed'
  local packed = redis.call('HGET', facts, 'health')
  if not packed then
    return
  end
  local health = read_health(packed)
  local on_probation = health.state == 'ejected' and now >= health.since
  if on_probation and success then
    health.good = health.good + 1
    if health.good >= health.wanted then
      health.state, health.since = 'returning', now
      local window = string.rep('1', health.good)
      local response, typical =
        string.match(redis.call('HGET', facts, 'stat'), '^%d+,%d+,%d+,([^,]+),%d+,([^,]+)$')
      redis.call('HSET', facts, 'window', window, 'stat',
        string.format('%.0f,%d,%d,%s,0,%s', now, #window, #window, response, typical))
    end
    redis.call('HSET', facts, 'health', packed_health(health))
  elseif on_probation then
    eject(facts, health, now)
  end
end

local function count_outcome(facts, request_type, state, seconds, now, kept, half_life)
  count(facts, '', state, seconds, now, kept, half_life)
  count(facts, ':' .. request_type, state, seconds, now, kept, half_life)
  move_health(facts, state, now)
end

-- The pool's failures in a row.
local function failures_in_row(facts)
  return tonumber(string.match(redis.call('HGET', facts, 'stat'), ',(%d+),[^,]+$'))
end
