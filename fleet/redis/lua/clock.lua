-- Notice that the server's clock was set, and hold for a while what its time would end.
--
-- KEYS  1 until when expiry is on hold  then for each pool: its agents, its unacked index
-- ARGV  1 ms since 1970 that the caller expects, by a clock that nobody sets, '' where it has not
--       looked lately  2 ms by which the two may differ  3 ms to hold expiry for
-- Returns {ms since 1970, ms by which the clock was set, 0 where it was not, 1 where expiry is on hold
--       now, else 0}
--
-- Invariant: who was taken for alive just before the clock was set is so just after: each agent and each
-- unacknowledged message counts as heard of now. The dead among them are found a silence later.

-- include time
-- include clock

local step = clock_step(ARGV[1], ARGV[2])
if step ~= 0 then
  hold_expiry(KEYS[1], ARGV[3])
  for i = 2, #KEYS, 2 do
    for _, agent in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do
      redis.call('ZADD', KEYS[i], now, agent)
    end
    for _, tag in ipairs(redis.call('ZRANGE', KEYS[i + 1], 0, -1)) do
      redis.call('ZADD', KEYS[i + 1], now / 1000, tag)
    end
  end
end
return {now, step, expiry_is_held(KEYS[1], ARGV[3]) and 1 or 0}
