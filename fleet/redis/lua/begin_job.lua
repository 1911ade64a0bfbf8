-- Note that a job of beat begins, once a period.
--
-- KEYS  1 the lease of beat  2 when each job began last
-- ARGV  1 owner  2 the job  3 when it began last, as the owner knows it, '' where it never did
-- Returns when it begins, in ms, as text, or '' where it must not
--
-- Invariant: only the beat that has the lease begins jobs, and of those that decided by the same
-- last time one only, once. So a job begins once a period, however many beats there are, and
-- wherever one of them died or stood still.

-- include time

local last = redis.call('HGET', KEYS[2], ARGV[2]) or ''
if redis.call('GET', KEYS[1]) ~= ARGV[1] or last ~= ARGV[3] then
  return ''
end
local at = string.format('%.0f', now)
redis.call('HSET', KEYS[2], ARGV[2], at)
return at
