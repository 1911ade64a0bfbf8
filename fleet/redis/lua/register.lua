-- Make an agent known and alive.
--
-- KEYS  1 agent  2 agents  3 the pool's agents  4 pool facts  5 pools
-- ARGV  1 agent id  2 pool  3 slots  then fields and values of the agent
-- Returns 1
--
-- Invariant: an agent is in its pool's zset, and so counted as capacity, only while it is
-- neither in maintenance nor dead.

-- include time
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'pool', ARGV[2], 'slots', ARGV[3], 'status', 'idle',
  'running', 0, 'registered', now, 'heartbeat', now, unpack(ARGV, 4))
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('HSET', KEYS[4], 'slots', ARGV[3])
redis.call('SADD', KEYS[5], ARGV[2])
return 1
