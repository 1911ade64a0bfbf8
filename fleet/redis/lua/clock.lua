-- Notice that the server's clock was set, and hold for a while everything that its time would end.
--
-- KEYS  1 until when expiry is on hold  then for each pool: its agents, its unacked index
-- ARGV  1 ms since 1970 that the caller expects, by a clock that nobody sets, '' where it has not
--       looked lately  2 ms by which the two may differ  3 ms to hold expiry for
-- Returns {ms since 1970, ms by which the clock was set, 0 where it was not, 1 where expiry is on hold
--       now, else 0}
--
-- Invariant: an agent that counted as alive just before the clock was set counts as alive just after:
-- each agent and each unacknowledged message counts as heard of now. The dead among them are found a
-- silence later.

-- include groups

local expiry_hold = unpack(KEYS, 1, 1)
local pools = groups(KEYS, 2, 2)
local expected_ms, tolerance_ms, hold_ms = unpack(ARGV)

-- include time
-- include clock

local step = clock_step(expected_ms, tolerance_ms)
if step ~= 0 then
  hold_expiry(expiry_hold, hold_ms)
  for agents, unacked_index in pools do
    for _, agent in ipairs(redis.call('ZRANGE', agents, 0, -1)) do
      redis.call('ZADD', agents, now, agent)
    end
    for _, tag in ipairs(redis.call('ZRANGE', unacked_index, 0, -1)) do
      redis.call('ZADD', unacked_index, now / 1000, tag)
    end
  end
end
return {now, step, expiry_is_held(expiry_hold, hold_ms) and 1 or 0}
