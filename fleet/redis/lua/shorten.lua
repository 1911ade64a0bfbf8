-- Let a lease end as late as one that is given now, where the server's clock was set back since.
--
-- KEYS  1 task record  2 leases
-- ARGV  1 task id  2 lease in ms
-- Returns 1 where it was shortened, else 0
--
-- Invariant: no lease is ended by this, and none lasts longer than one that is renewed now.

-- include time

local found = redis.call('HMGET', KEYS[1], 'state', 'lease_until')
local until_ms = now + tonumber(ARGV[2])
if found[1] ~= 'running' or tonumber(found[2] or 0) <= until_ms then
  return 0
end
redis.call('HSET', KEYS[1], 'lease_until', until_ms)
redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
return 1
