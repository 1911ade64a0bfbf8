-- A pool's health, one field of its facts while it is not simply in:
--   state,since,ejections,good,probes,good probes wanted,ramp ms,eject ms,most eject ms,reason
-- state 'ejected': since is the ms when it ends; after that, probes count into good.
-- state 'returning': since is the ms when it began; all slots are open after ramp ms.
-- The circle is drawn in fleet/routing/rules/health.py.

local health_pattern = '^(%a+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(.*)$'

local function read_health(packed)
  local state, since, ejections, good, probes, wanted, ramp, eject, most, reason =
    string.match(packed, health_pattern)
  return {
    state = state, since = tonumber(since), ejections = tonumber(ejections),
    good = tonumber(good), probes = tonumber(probes), wanted = tonumber(wanted),
    ramp = tonumber(ramp), eject = tonumber(eject), most = tonumber(most), reason = reason
  }
end

local function packed_health(health)
  return string.format('%s,%.0f,%d,%d,%d,%d,%.0f,%.0f,%.0f,%s', health.state, health.since,
    health.ejections, health.good, health.probes, health.wanted, health.ramp, health.eject,
    health.most, health.reason)
end

-- How many of the slots may be taken now, the standing as a word, and the reason for it.
local function openings(capacity, maintenance, packed, now)
  if maintenance then
    return 0, 'maintenance', ''
  end
  if not packed then
    return capacity, 'in', ''
  end
  local health = read_health(packed)
  if health.state == 'ejected' and now < health.since then
    local left = math.ceil((health.since - now) / 1000)
    return 0, 'ejected', health.reason .. ' (' .. left .. ' s left)'
  elseif health.state == 'ejected' then
    return math.min(capacity, health.probes), 'probation', health.reason
  end
  if now >= health.since + health.ramp then
    return capacity, 'in', ''
  end
  local share = (now - health.since) / health.ramp
  local open = math.min(capacity, math.max(health.probes, math.ceil(capacity * share)))
  return open, 'returning', health.reason
end

-- Take a pool out, for twice as long as the last time.
local function eject(facts, health, now)
  health.ejections = health.ejections + 1
  local long = math.min(health.eject * 2 ^ (health.ejections - 1), health.most)
  health.state, health.since, health.good = 'ejected', now + long, 0
  redis.call('HSET', facts, 'health', packed_health(health))
end
