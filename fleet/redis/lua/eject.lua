-- Take a pool out of the rotation for a while, where one of its peers stays in.
--
-- KEYS  1 facts of the pool  then for each peer: facts, agents
-- ARGV  1 ms after which a silent agent is dead  2 ms to eject for, the first time
--       3 max ms to eject for  4 probes at a time  5 good probes wanted  6 ms of the ramp
--       7 reason, without commas and semicolons
-- Returns 1 where the pool was ejected now, else 0
--
-- Invariant: never the last pool that is alive and in. A pool that is ejected or on probation stays
-- as it is: its own outcomes move it, see parts/outcome.lua.

-- include groups

local pool_facts = unpack(KEYS, 1, 1)
local peers = groups(KEYS, 2, 2)
local silence_ms, eject_ms, max_eject_ms, probes, wanted, ramp_ms, reason = unpack(ARGV)

-- include time
-- include health

local packed = redis.call('HGET', pool_facts, 'health')
local health = packed and read_health(packed)
if health and health.state == 'ejected' then
  return 0
end
local any_peer = false
for facts, agents in peers do
  local live = redis.call('ZCOUNT', agents, '(' .. (now - tonumber(silence_ms)), '+inf')
  local slots, maintenance, health_of_peer =
    unpack(redis.call('HMGET', facts, 'slots', 'maintenance', 'health'))
  local capacity = live * tonumber(slots or 0)
  local open = openings(capacity, maintenance, health_of_peer, now)
  any_peer = any_peer or live > 0 and open == capacity
end
if not any_peer then
  return 0
end
-- A pool that fails again soon after its return is ejected for longer each time.
local before = health and now < health.since + health.ramp + 10 * health.eject and health.ejections
eject(pool_facts, {
  ejections = before or 0, eject = tonumber(eject_ms), max_eject = tonumber(max_eject_ms),
  probes = tonumber(probes), wanted = tonumber(wanted), ramp = tonumber(ramp_ms), reason = reason
}, now)
return 1
