-- End a running task: its last state and result, its slot and lease given back, its
-- outcome counted for the pool, and everybody who waits told.
--
-- KEYS  1 task record  2 leases  3 in_flight  4 cancelled  5 pool facts  6 pool outcomes
--       7 done channel
-- ARGV  1 task id  2 fence  3 state  4 seconds to keep the record  5 outcomes to keep
--       6 1 where the outcome says something about the pool, else 0
--       then fields and values, such as the result
-- Returns 1, or 0 where the lease has passed to another run: nothing was written
--
-- Invariant: one run writes an end, once (the same end sent again, because the first answer
-- was lost, is answered with 1 again). successes and outcomes always equal what the
-- list of outcomes holds. response is the moving average r <- 0.1 x latest + 0.9 x r of
-- the run's seconds by the server's clock, from 0. A cancelled task, or a request that could
-- not be answered by any pool, says nothing about this one.

local id, state, most = ARGV[1], ARGV[3], tonumber(ARGV[5])
local before = redis.call('HMGET', KEYS[1], 'fence', 'state', 'started')
if before[1] ~= ARGV[2] or before[2] ~= 'running' then
  return before[1] == ARGV[2] and before[2] == state and 1 or 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], 'state', state, 'ended', now, unpack(ARGV, 7))
redis.call('HDEL', KEYS[1], 'message', 'lease_until')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZREM', KEYS[2], id)
redis.call('SREM', KEYS[3], id)
redis.call('SREM', KEYS[4], id)
if ARGV[6] == '1' then
  local success = state == 'succeeded' and 1 or 0
  redis.call('LPUSH', KEYS[6], success)
  redis.call('HINCRBY', KEYS[5], 'successes', success)
  if redis.call('HINCRBY', KEYS[5], 'outcomes', 1) > most then
    redis.call('HINCRBY', KEYS[5], 'successes', -tonumber(redis.call('RPOP', KEYS[6])))
    redis.call('HINCRBY', KEYS[5], 'outcomes', -1)
  end
  local seconds = (now - tonumber(before[3])) / 1000
  local average = tonumber(redis.call('HGET', KEYS[5], 'response') or 0)
  redis.call('HSET', KEYS[5], 'response', string.format('%.6f', 0.1 * seconds + 0.9 * average))
end
redis.call('PUBLISH', KEYS[7], state)
return 1
