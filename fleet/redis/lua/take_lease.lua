-- Take, renew or give up a lease that one of several owners may have.
--
-- KEYS  1 the lease
-- ARGV  1 owner  2 seconds to hold it, 0 to give it up
-- Returns 1 where the owner has it now, else 0
--
-- Invariant: at most one owner. Only the owner renews or gives up.

local lease = unpack(KEYS)
local owner, seconds = unpack(ARGV)

local owner_now = redis.call('GET', lease)
if owner_now and owner_now ~= owner then
  return 0
end
if seconds == '0' then
  redis.call('DEL', lease)
  return 0
end
redis.call('SET', lease, owner, 'EX', seconds)
return 1
