-- Publish a delayed message whose time has come.
--
-- KEYS  1 delayed messages  2 queue  3 its wake list
-- ARGV  1 what stands in the schedule  2 the message
-- Returns 1 where it was published, 0 where somebody has done it before
--
-- Invariant: a message is in the schedule or in its queue at every moment, and never in both.

-- include wake

if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('LPUSH', KEYS[2], ARGV[2])
wake_worker(KEYS[3])
return 1
