-- A pool's health: one field of the pool's facts, which a healthy pool does not have:
--   state,since,ejections,good,probes,good probes wanted,ramp ms,eject ms,max eject ms,reason
-- state 'ejected': since is the ms when the ejection ends; after that, probes count into good.
-- state 'returning': since is the ms when the return began; all slots are open after ramp ms.
-- fleet/routing/rules/health.py describes the circle of these states.

local health_pattern = '^(%a+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(.*)$'

local function read_health(packed)
  local state, since, ejections, good, probes, wanted, ramp, eject, max_eject, reason =
    string.match(packed, health_pattern)
  return {
    state = state, since = tonumber(since), ejections = tonumber(ejections),
    good = tonumber(good), probes = tonumber(probes), wanted = tonumber(wanted),
    ramp = tonumber(ramp), eject = tonumber(eject), max_eject = tonumber(max_eject),
    reason = reason
  }
end

local function packed_health(health)
  return string.format('%s,%.0f,%d,%d,%d,%d,%.0f,%.0f,%.0f,%s', health.state, health.since,
    health.ejections, health.good, health.probes, health.wanted, health.ramp, health.eject,
    health.max_eject, health.reason)
end

-- How many of the slots may be taken now, the health state as a word, and the reason for it.
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

-- Eject a pool, for twice as long as the last time.
local function eject(facts, health, now)
  health.ejections = health.ejections + 1
  local long = math.min(health.eject * 2 ^ (health.ejections - 1), health.max_eject)
  health.state, health.since, health.good = 'ejected', now + long, 0
  redis.call('HSET', facts, 'health', packed_health(health))
end
