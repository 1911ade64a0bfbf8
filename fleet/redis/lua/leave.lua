-- Forget an agent that shuts down in good order.
--
-- KEYS  1 agent  2 agents  3 the pool's agents
-- ARGV  1 agent id
-- Returns 1
--
-- Invariant: what has left is neither capacity nor shown.

redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
