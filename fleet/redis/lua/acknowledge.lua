-- Note which versions of secrets a process has and uses, and answer whether others are current.
--
-- KEYS  1 secrets  2 their processes
-- ARGV  1 process  2 the generation that it obeys  3 its report as JSON
-- Returns the generation, and where the process obeys another one, the fields and values of all
--       current versions
--
-- Invariant: a report carries the time at which it arrived, by this server's clock, and the
-- generation that its process obeyed when it was made. The answer's versions are those of its
-- generation.

local secrets, processes = unpack(KEYS)
local process, generation, report = unpack(ARGV)

-- include time

redis.call('HSET', processes, process, string.format('%.0f %s %s', now, generation, report))
local current = redis.call('HGET', secrets, ':generation') or '0'
if current == generation then
  return {current}
end
return {current, unpack(redis.call('HGETALL', secrets))}
