-- Close the circuit of a model that has answered: its failures in a row are over.
--
-- KEYS  1 models
-- ARGV  1 field of the cool-down  2 end in ms of the cool-down that was known when the model was asked
-- Returns 1 where the cool-down was dropped, 0 where there is none or another
--
-- Invariant: an answer never ends a cool-down that began, or grew, after its question.

local models = unpack(KEYS)
local field, until_ms = unpack(ARGV)

local packed = redis.call('HGET', models, field) or ''
if string.match(packed, '^(%d+),') == until_ms then
  return redis.call('HDEL', models, field)
end
return 0
