-- End the failures in a row of a model that has answered.
--
-- KEYS  1 models
-- ARGV  1 field of the cool-down  2 until in ms, of the one known when the model was asked
-- Returns 1 where it was dropped, 0 where there is none or another
--
-- Invariant: an answer never ends a cool-down that began, or grew, after its question.

local packed = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if string.match(packed, '^(%d+),') == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
