-- End the lease of a run whose process has died, now instead of when it would end by itself.
--
-- KEYS  1 task record  2 leases
-- ARGV  1 task id  2 agent  3 how the names of that process's claims begin
-- Returns the fence of the run whose lease has ended, nil where the process does not hold it (any more)
--
-- Invariant: judged by the claim that the record names, so no run of another process is taken for the
-- dead one, and sent again it changes nothing. What comes next is the reaper's or the next worker's.

-- include time

local found = redis.call('HMGET', KEYS[1], 'state', 'agent', 'claim', 'fence')
local is_its = found[2] == ARGV[2] and string.sub(found[3] or '', 1, #ARGV[3]) == ARGV[3]
if found[1] ~= 'running' or not is_its then
  return nil
end
redis.call('HSET', KEYS[1], 'lease_until', now)
redis.call('ZADD', KEYS[2], now, ARGV[1])
return found[4]
