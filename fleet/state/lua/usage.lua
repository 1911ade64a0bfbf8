-- Add the tokens and the cost of one model call to a task, and keep the call as a step.
--
-- KEYS  1 task record
-- ARGV  1 input tokens  2 output tokens  3 nano-dollars  4 1 where the usage was not seen
--       5 a name for this very call  6 the step, as JSON  7 the model, '' where it did not answer
--       8 most steps to keep
-- Returns the nano-dollars that the task has cost by now, 0 where there is no such record
--
-- Invariant: spend is counted whoever holds the lease, for the tokens are burned; and
-- once, however often the same call is sent. All steps are counted and the first ones are kept.

-- include time

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if redis.call('HSETNX', KEYS[1], 'call:' .. ARGV[5], ARGV[3]) == 0 then
  return tonumber(redis.call('HGET', KEYS[1], 'cost_nanodollars'))
end
local number = redis.call('HINCRBY', KEYS[1], 'steps', 1)
if number <= tonumber(ARGV[8]) then
  redis.call('HSET', KEYS[1], 'step:' .. number, string.format('%.0f ', now) .. ARGV[6])
end
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'model', ARGV[7])
end
redis.call('HINCRBY', KEYS[1], 'input_tokens', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'output_tokens', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'uncertain_calls', ARGV[4])
return redis.call('HINCRBY', KEYS[1], 'cost_nanodollars', ARGV[3])
