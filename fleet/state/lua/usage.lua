-- Add the tokens and the cost of one model call to a task.
--
-- KEYS  1 task record
-- ARGV  1 input tokens  2 output tokens  3 nano-dollars  4 1 where the usage was not seen
--       5 a name for this very call
-- Returns 1, or 0 where there is no such record
--
-- Invariant: spend is counted whoever holds the lease, for the tokens are burned; and
-- once, however often the same call is sent.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if redis.call('HSETNX', KEYS[1], 'call:' .. ARGV[5], ARGV[3]) == 0 then
  return 1
end
redis.call('HINCRBY', KEYS[1], 'input_tokens', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'output_tokens', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'cost_nanodollars', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'uncertain_calls', ARGV[4])
return 1
