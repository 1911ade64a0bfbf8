-- End a delayed task whose time has come and whose cost fits no limit, where the policy says to
-- refuse such tasks.
--
-- KEYS  1 task record  2 delayed tasks  3 done channel  4 how many tasks wait  5 dead letters
--       6 what is saved  7 queue for its message  8 its wake list
-- ARGV  1 task id  2 error, as JSON  3 seconds to keep a dead letter
-- Returns 1 where it was refused, 0 where it is not delayed (any more)
-- Moves   delayed -> failed
--
-- Invariant: a delayed task holds no money and no slot, and is in no queue: there is nothing to give
-- back. Its message stays in its record, so that it can be retried, and gives Celery the word.

-- include time
-- include moves
-- include dead
-- include wake
-- include word

redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HGET', KEYS[1], 'state') ~= 'delayed' then
  return 0
end
move(KEYS[1], KEYS[4], 'delayed', 'failed', 'schedule', 'permanent', 'ended', now, 'error', ARGV[2])
bury(KEYS[1], KEYS[6], KEYS[5], ARGV[1], 'permanent', ARGV[3])
send_word(redis.call('HGET', KEYS[1], 'message'), KEYS[7], KEYS[8])
redis.call('PUBLISH', KEYS[3], 'failed')
return 1
