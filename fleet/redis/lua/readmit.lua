-- Put a pool into the rotation again at once, where it is out and its peers are gone, or where
-- somebody says so.
--
-- KEYS  1 facts of the pool
-- ARGV  (none)
-- Returns 1 where it was out or on its way back, else 0
--
-- Invariant: after it all slots of the pool's live agents are open.

return redis.call('HDEL', KEYS[1], 'health')
