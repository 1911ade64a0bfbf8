-- Add the tokens and the cost of one model call to a task, keep the call as a step, write it into
-- the ledger, and count it in every scope and window.
--
-- KEYS  1 task record  2 ledger  3 index of the counters  4... counters, one for each scope
-- ARGV  1 input tokens  2 output tokens  3 nano-dollars  4 1 where the cost is not certain
--       5 a name for this very call  6 the step, as JSON  7 the model, '' where it did not answer
--       8 most steps to keep  9... names and values of the ledger's entry
-- Returns the nano-dollars that the task has cost by now, 0 where there is no such record
--
-- Invariant: spend is counted whoever holds the lease, for the tokens are burned; and
-- once, however often the same call is sent. All steps are counted and the first ones are kept.
-- The sum of the ledger's entries is that of every scope's counters, in each window.

-- include time
-- include windows
-- include counters

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if redis.call('HSETNX', KEYS[1], 'call:' .. ARGV[5], ARGV[3]) == 0 then
  return tonumber(redis.call('HGET', KEYS[1], 'cost_nanodollars'))
end
local windows = windows_of(tonumber(time[1]))
redis.call('XADD', KEYS[2], '*', 'windows', table.concat(windows, ','), unpack(ARGV, 9))
redis.call('SADD', KEYS[3], unpack(KEYS, 4))
for i = 4, #KEYS do
  settle(KEYS[i], windows, tonumber(ARGV[3]), ARGV[1] + ARGV[2], 1)
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
