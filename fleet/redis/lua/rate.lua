-- Keep a user's rating of a task's result, and learn from it.
--
-- KEYS  1 task record  2 models
-- ARGV  1 rating, 0 to 1  2 field of the evidence, '' where nothing is learned
--       3 half-life in ms  4 the rating's weight as a reward
-- Returns 1, or 0 where there is no such record
--
-- Invariant: a task has one rating. A newer one takes the place of the older: the difference is
-- applied to the part of its weight that is left. Sending the same rating again changes nothing.

local record, models = unpack(KEYS)
local rating, field, half_life_ms, weight = unpack(ARGV)

-- include time
-- include evidence

if redis.call('EXISTS', record) == 0 then
  return 0
end
local rating_before, rated_at = unpack(redis.call('HMGET', record, 'rating', 'rated'))
redis.call('HSET', record, 'rating', rating)
redis.call('HSETNX', record, 'rated', now)
if field == '' or rating_before == rating then
  return 1
end
half_life_ms, weight = tonumber(half_life_ms), tonumber(weight)
local sums = faded(models, field, now, half_life_ms)
if rating_before then
  local left = 0.5 ^ (math.max(0, now - tonumber(rated_at)) / half_life_ms)
  local changed = sums.reward + left * weight * (tonumber(rating) - tonumber(rating_before))
  sums.reward = math.min(math.max(changed, 0), sums.rewards)
else
  add_rewards(sums, weight, tonumber(rating))
end
keep(models, field, sums, now)
return 1
