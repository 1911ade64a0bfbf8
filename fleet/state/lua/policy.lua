-- Change one field of the policy that all producers follow.
--
-- KEYS  1 policy
-- ARGV  1 field  2 value, '' to take the field away
-- Returns the new version, or 0 where the field was not there to be taken away
--
-- Invariant: the version grows with every change, so a plan made under an older one is told
-- by submit.lua to be made again.

if ARGV[2] == '' then
  if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
    return 0
  end
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return redis.call('HINCRBY', KEYS[1], 'version', 1)
