-- Write the next state of a secret's rotation, and its current version where that changes.
--
-- KEYS  1 rotations  2 secrets  3 the lease of the secret's set
-- ARGV  1 owner of the lease  2 path  3 the state that was read, '' where there was none
--       4 the next state  5 the current version, '' where there is none
-- Returns 'written', 'lost' where another owner has the lease, or 'changed' where the state is
--       another one by now
--
-- Invariant: only the owner of the lease writes, and only over the state that it has read. A change
-- of the current version makes a new generation in the same moment. The same call again changes
-- nothing and is 'written'.

local rotations, secrets, lease = unpack(KEYS)
local owner, path, known, following, version = unpack(ARGV)

if redis.call('GET', lease) ~= owner then
  return 'lost'
end
local state = redis.call('HGET', rotations, path) or ''
if state == following then
  return 'written'
end
if state ~= known then
  return 'changed'
end
redis.call('HSET', rotations, path, following)
local current = redis.call('HGET', secrets, path) or ''
if version ~= '' and string.match(current, '^%d+') ~= version then
  local generation = redis.call('HINCRBY', secrets, ':generation', 1)
  redis.call('HSET', secrets, path, version .. ' ' .. string.format('%.0f', generation))
end
return 'written'
