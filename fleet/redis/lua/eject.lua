-- Take a pool out of the rotation for a while, where it has peers that stay in.
--
-- KEYS  1 facts of the pool  then for each peer: facts, agents
-- ARGV  1 ms after which a silent agent is dead  2 ms to eject for, the first time
--       3 most ms to eject for  4 probes at a time  5 good probes wanted  6 ms of the ramp
--       7 reason, without commas and semicolons
-- Returns 1 where the pool was taken out now, else 0
--
-- Invariant: never the last pool that is alive and in. A pool that is out or on probation stays
-- as it is: its own outcomes move it, see parts/outcome.lua.

-- include time
-- include health

local packed = redis.call('HGET', KEYS[1], 'health')
local health = packed and read_health(packed)
if health and health.state == 'ejected' then
  return 0
end
local peers = 0
for i = 2, #KEYS, 2 do
  local live = redis.call('ZCOUNT', KEYS[i + 1], '(' .. (now - tonumber(ARGV[1])), '+inf')
  local facts = redis.call('HMGET', KEYS[i], 'slots', 'maintenance', 'health')
  local capacity = live * tonumber(facts[1] or 0)
  local open = openings(capacity, facts[2], facts[3], now)
  if live > 0 and open == capacity then
    peers = peers + 1
  end
end
if peers == 0 then
  return 0
end
-- A pool that fails again soon after its return is out for longer each time.
local before = health and now < health.since + health.ramp + 10 * health.eject and health.ejections
eject(KEYS[1], {
  ejections = before or 0, eject = tonumber(ARGV[2]), most = tonumber(ARGV[3]),
  probes = tonumber(ARGV[4]), wanted = tonumber(ARGV[5]), ramp = tonumber(ARGV[6]),
  reason = ARGV[7]
}, now)
return 1
