-- Free the slots of a pool that are held by tasks which no longer run in it.
--
-- KEYS  1 the pool's in_flight  then the record of each task that holds a slot
-- ARGV  1 pool  then the ids of the tasks
-- Returns the ids whose slot was freed
--
-- Invariant: a slot is held while its task is queued, or runs, in this pool. A task without a
-- record was fetched and takes its slot again when it is claimed, or has expired.

local freed = {}
for i = 2, #ARGV do
  local found = redis.call('HMGET', KEYS[i], 'state', 'pool')
  local here = (found[1] == 'queued' and (found[2] == '' or found[2] == ARGV[1]))
    or (found[1] == 'running' and found[2] == ARGV[1])
  if not here then
    redis.call('SREM', KEYS[1], ARGV[i])
    freed[#freed + 1] = ARGV[i]
  end
end
return freed
