-- End the lease of a run whose process has died, now instead of at its own end.
--
-- KEYS  1 task record  2 leases
-- ARGV  1 task id  2 agent  3 how the names of that process's claims begin
-- Returns the fence of the run whose lease has ended, nil where the process does not hold it (any more)
--
-- Invariant: the claim that the record names decides, so a run of another process is never ended.
-- Sending the call again changes nothing. The reaper or the next worker does the rest.

local record, leases = unpack(KEYS)
local id, agent, claim_prefix = unpack(ARGV)

-- include time

local state, claimed_by, claim, fence =
  unpack(redis.call('HMGET', record, 'state', 'agent', 'claim', 'fence'))
local is_its = claimed_by == agent and string.sub(claim or '', 1, #claim_prefix) == claim_prefix
if state ~= 'running' or not is_its then
  return nil
end
redis.call('HSET', record, 'lease_until', now)
redis.call('ZADD', leases, now, id)
return fence
