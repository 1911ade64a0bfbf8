-- Give back the slot of a task whose message goes back to its overflow queue.
--
-- KEYS  1 in_flight of the pool that held the message  2 task record
-- ARGV  1 task id  2 the pool
-- Returns 1 where the slot was given back, else 0
--
-- Invariant: a slot is held while its task runs here. A dropped connection brings messages
-- back while their runs go on: those keep their slot, and give it back at their end.

local found = redis.call('HMGET', KEYS[2], 'state', 'pool')
if found[1] == 'running' and found[2] == ARGV[2] then
  return 0
end
return redis.call('SREM', KEYS[1], ARGV[1])
