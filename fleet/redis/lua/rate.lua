-- Keep what a user thinks of a task's result, and learn from it.
--
-- KEYS  1 task record  2 models
-- ARGV  1 rating, 0 to 1  2 field of the evidence, '' where nothing is to be learned
--       3 half-life in ms  4 the rating's weight as a reward
-- Returns 1, or 0 where there is no such record
--
-- Invariant: a task has one rating. A newer one takes the place of the older: the difference is
-- applied to what is left of its weight. The same one sent again changes nothing.

-- include time
-- include evidence

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local before = redis.call('HMGET', KEYS[1], 'rating', 'rated')
redis.call('HSET', KEYS[1], 'rating', ARGV[1])
redis.call('HSETNX', KEYS[1], 'rated', now)
if ARGV[2] == '' or before[1] == ARGV[1] then
  return 1
end
local half_life, weight = tonumber(ARGV[3]), tonumber(ARGV[4])
local sums = faded(KEYS[2], ARGV[2], now, half_life)
if before[1] then
  local left = 0.5 ^ (math.max(0, now - tonumber(before[2])) / half_life)
  local changed = sums.reward + left * weight * (tonumber(ARGV[1]) - tonumber(before[1]))
  sums.reward = math.min(math.max(changed, 0), sums.rewards)
else
  add_rewards(sums, weight, tonumber(ARGV[1]))
end
keep(KEYS[2], ARGV[2], sums, now)
return 1
