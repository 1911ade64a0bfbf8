-- Free the slot of a task whose message goes back to its overflow queue.
--
-- KEYS  1 in_flight of the pool that held the message  2 task record
-- ARGV  1 task id  2 the pool
-- Returns 1 where the slot was freed, else 0
--
-- Invariant: a slot is held while its task runs here. A dropped connection brings messages
-- back while their runs go on: those keep their slot, and free it at their end.

local in_flight, record = unpack(KEYS)
local id, pool = unpack(ARGV)

local state, runs_in = unpack(redis.call('HMGET', record, 'state', 'pool'))
if state == 'running' and runs_in == pool then
  return 0
end
return redis.call('SREM', in_flight, id)
