-- Write down how far a running task is, and what it has used so far.
--
-- KEYS  1 task record
-- ARGV  1 fence  then fields and values
-- Returns 1, or 0 where the lease has passed to another run
--
-- Invariant: as for every write of a run, only the newest fence may.

if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1]
  or redis.call('HGET', KEYS[1], 'state') ~= 'running' then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
