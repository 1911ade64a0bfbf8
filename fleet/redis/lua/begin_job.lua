-- Note that a job of beat begins, once a period.
--
-- KEYS  1 the lease of beat  2 the time when each job last began
-- ARGV  1 owner  2 the job  3 the time when the job last began, as the owner knows it, '' where it
--       never did
-- Returns the time when the job begins, in ms, as text, or '' where it must not begin
--
-- Invariant: only the beat that has the lease begins jobs. Of those that decided by the same last
-- time, one begins the job, once. So a job begins once a period, with any number of beats, even if
-- one of them dies or stands still.

local lease, began = unpack(KEYS)
local owner, job, last_known = unpack(ARGV)

-- include time

local last = redis.call('HGET', began, job) or ''
if redis.call('GET', lease) ~= owner or last ~= last_known then
  return ''
end
local at = string.format('%.0f', now)
redis.call('HSET', began, job, at)
return at
