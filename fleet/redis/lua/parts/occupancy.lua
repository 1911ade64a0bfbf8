-- How long runs occupy a pool's slots, in two fields of the pool's facts:
--   claimed   how many runs began
--   occupied  how many ended, the sum of their seconds, and the sum of the squares of these
-- Whatever ends a run ends its occupancy: an outcome, a retry, a limit, a shutdown, a crash. Needs time.

local function count_occupancy(facts, started)
  local ended, seconds, squares =
    string.match(redis.call('HGET', facts, 'occupied') or '0,0,0', '^(%d+),([^,]+),([^,]+)$')
  local long = math.max(0, now - tonumber(started or now)) / 1000
  redis.call('HSET', facts, 'occupied', string.format('%d,%.3f,%.3f', ended + 1, seconds + long,
    squares + long * long))
end
