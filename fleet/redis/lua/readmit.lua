-- Put a pool into the rotation again at once, because its peers are gone or somebody asks for it.
--
-- KEYS  1 facts of the pool
-- ARGV  (none)
-- Returns 1 where it was ejected or returning, else 0
--
-- Invariant: after it all slots of the pool's live agents are open.

local pool_facts = unpack(KEYS)

return redis.call('HDEL', pool_facts, 'health')
