-- Put an agent into maintenance, or take it out again.
--
-- KEYS  1 agent  2 the pool's agents
-- ARGV  1 agent id  2 'maintenance' or 'idle'
-- Returns 1, or 0 where there is no such live agent, or it is about to end
--
-- Invariant: from this moment on an agent in maintenance is no capacity and fetches nothing, and one
-- that was taken out is capacity again. An agent in maintenance finishes the tasks that it runs. What
-- a person does is not undone by size.lua.

local agent, agents = unpack(KEYS)
local id, new_status = unpack(ARGV)

local status, leaving = unpack(redis.call('HMGET', agent, 'status', 'leaving'))
if not status or status == 'failed' or leaving == 'ending' then
  return 0
end
redis.call('HSET', agent, 'status', new_status)
redis.call('HDEL', agent, 'leaving', 'leaving_since')
if new_status == 'maintenance' then
  redis.call('ZREM', agents, id)
else
  redis.call('ZADD', agents, redis.call('HGET', agent, 'heartbeat'), id)
end
return 1
