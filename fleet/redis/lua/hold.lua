-- Take, renew or give up a lease that one of several may have.
--
-- KEYS  1 the lease
-- ARGV  1 owner  2 seconds to hold it, 0 to give it up
-- Returns 1 where the owner has it now, else 0
--
-- Invariant: at most one owner; only the owner renews or gives up.

local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
