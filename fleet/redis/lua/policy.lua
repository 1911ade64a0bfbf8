-- Change fields of the policy that all producers follow, all of them or none, and note each change.
--
-- KEYS  1 policy  2 audit  3 what this very change was answered  4 parked tasks
-- ARGV  1 by whom  2 why  3 about how many entries the audit keeps  4 seconds to keep the answer
--       then for each change: field, value ('' to take the field away)
-- Returns {the version now, how many fields it changed}
--
-- Invariant: the version grows with every change, so a plan made under an older one is told
-- by submit.lua to be made again. Every change has an entry in the audit, and what changes nothing
-- has neither. A change sent again is not made again, whatever others have changed meanwhile. What is
-- parked is due to be looked at after every change, for it may fit now.

-- include time

local function noted(field, value)
  return field == 'difficulty' and value ~= '' and #value .. ' bytes' or value
end

local version, made = string.match(redis.call('GET', KEYS[3]) or '', '^(%d+),(%d+)$')
if version then
  return {tonumber(version), tonumber(made)}
end
local changes = {}
for i = 5, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if before ~= ARGV[i + 1] then
    changes[#changes + 1] = {field = ARGV[i], before = before, after = ARGV[i + 1]}
  end
end
version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if #changes > 0 then
  version = redis.call('HINCRBY', KEYS[1], 'version', 1)
  redis.call('ZUNIONSTORE', KEYS[4], 1, KEYS[4], 'WEIGHTS', 0)
end
for _, change in ipairs(changes) do
  if change.after == '' then
    redis.call('HDEL', KEYS[1], change.field)
  else
    redis.call('HSET', KEYS[1], change.field, change.after)
  end
  if change.field == 'emergency' then
    redis.call('HSET', KEYS[1], 'emergency_ms', now)
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'version', version,
    'field', change.field, 'before', noted(change.field, change.before),
    'after', noted(change.field, change.after), 'by', ARGV[1], 'why', ARGV[2])
end
redis.call('SET', KEYS[3], version .. ',' .. #changes, 'EX', ARGV[4])
return {version, #changes}
