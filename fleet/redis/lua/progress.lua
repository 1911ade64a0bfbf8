-- Write the progress of a running task, and the amounts that it has used so far.
--
-- KEYS  1 task record
-- ARGV  1 fence  then fields and values
-- Returns 1, or 0 where the lease has passed to another run
--
-- Invariant: as for every write of a run, only the newest fence may write.

local record = unpack(KEYS)
local fence = unpack(ARGV, 1, 1)
local fields = {unpack(ARGV, 2)}

if redis.call('HGET', record, 'fence') ~= fence
  or redis.call('HGET', record, 'state') ~= 'running' then
  return 0
end
redis.call('HSET', record, unpack(fields))
return 1
