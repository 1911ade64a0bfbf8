-- Change fields of the policy that all producers follow, all of them or none, and note each change.
--
-- KEYS  1 policy  2 audit  3 the audit's head  4 the answer to this very change  5 tasks on hold
-- ARGV  1 actor  2 reason  3 seconds to keep the answer
--       then for each change: field, value ('' to take the field away)
-- Returns {the version now, how many fields changed}
--
-- Invariant: the version grows with every change, so submit.lua refuses a plan that was made under an
-- older one, and the caller plans again. Every change has an entry in the audit. A value that is equal
-- to the current one neither changes the version nor has an entry. A change that is sent again is not
-- made again, whatever others have changed meanwhile. After every change all tasks on hold are due to
-- be looked at, because they may fit now.

-- include groups

local policy, audit, head, answer, on_hold = unpack(KEYS)
local actor, reason, seconds = unpack(ARGV, 1, 3)
local new_values = groups(ARGV, 4, 2)

-- include time
-- include sha256
-- include chain

local function noted(field, value)
  return field == 'difficulty' and value ~= '' and #value .. ' bytes' or value
end

local version, made = string.match(redis.call('GET', answer) or '', '^(%d+),(%d+)$')
if version then
  return {tonumber(version), tonumber(made)}
end
local changes = {}
for field, after in new_values do
  local before = redis.call('HGET', policy, field) or ''
  if before ~= after then
    changes[#changes + 1] = {field = field, before = before, after = after}
  end
end
version = tonumber(redis.call('HGET', policy, 'version') or 0)
if #changes > 0 then
  version = redis.call('HINCRBY', policy, 'version', 1)
  redis.call('ZUNIONSTORE', on_hold, 1, on_hold, 'WEIGHTS', 0)
end
for _, change in ipairs(changes) do
  if change.after == '' then
    redis.call('HDEL', policy, change.field)
  else
    redis.call('HSET', policy, change.field, change.after)
  end
  if change.field == 'emergency' then
    redis.call('HSET', policy, 'emergency_ms', now)
  end
  local facts = {
    'kind', 'policy', 'version', tostring(version), 'field', change.field,
    'before', noted(change.field, change.before), 'after', noted(change.field, change.after),
    'by', actor, 'why', reason,
  }
  chained(audit, head, now, facts_digest(facts), facts)
end
redis.call('SET', answer, version .. ',' .. #changes, 'EX', seconds)
return {version, #changes}
