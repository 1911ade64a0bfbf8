-- Let a lease end no later than one that is given now, where the server's clock was set back since.
--
-- KEYS  1 task record  2 leases
-- ARGV  1 task id  2 lease in ms
-- Returns 1 where it was shortened, else 0
--
-- Invariant: this ends no lease, and no lease lasts longer than one that is renewed now.

local record, leases = unpack(KEYS)
local id, lease_ms = unpack(ARGV)

-- include time

local state, lease_until = unpack(redis.call('HMGET', record, 'state', 'lease_until'))
local until_ms = now + tonumber(lease_ms)
if state ~= 'running' or tonumber(lease_until or 0) <= until_ms then
  return 0
end
redis.call('HSET', record, 'lease_until', until_ms)
redis.call('ZADD', leases, until_ms, id)
return 1
