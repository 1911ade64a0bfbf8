-- Queue a parked task whose time has come, if its cost fits now; else it waits on.
--
-- KEYS  1 task record  2 parked tasks  3 policy  4 money  5 reservations  6 overflow queue
--       7 its wake list
-- ARGV  1 task id  2 version of the policy that the limits are of  3 tenant  4 agent type
--       5 limits of everything, 6 of the tenant, 7 of the agent type  8 share of a limit from which
--       on a cheaper model is taken  9 to 14 the models to choose from, see parts/choice.lua
-- Returns 'queued', 'parked' where it waits on, 'gone' where it is not parked (any more), 'replan'
--       where the policy has changed: nothing was written then
--
-- Invariant: a parked task is among the parked ones and in no queue; its money is held when it is
-- queued again, as at its submission.

-- include time
-- include windows
-- include book
-- include limits
-- include reservation
-- include choice
-- include parked

local id = ARGV[1]
local task = redis.call('HMGET', KEYS[1], 'state', 'message')
if task[1] ~= 'parked' then
  redis.call('ZREM', KEYS[2], id)
  return 'gone'
end
if (redis.call('HGET', KEYS[3], 'version') or '0') ~= ARGV[2] then
  return 'replan'
end
local book, windows = open_book(KEYS[4]), windows_of(now / 1000)
local choice, refusal = choose(book, {'all', 'tenant:' .. ARGV[3], 'agent_type:' .. ARGV[4]},
  {ARGV[5], ARGV[6], ARGV[7]}, read_choices(8), tonumber(ARGV[8]), windows, now)
if not choice then
  redis.call('HSET', KEYS[1], 'parked_for', told(refusal),
    'parked_until', may_fit_at(now, refusal[8]))
  redis.call('ZADD', KEYS[2], look_again_at(now, refusal[8]), id)
  return 'parked'
end
reserve(book, KEYS[5], id, {ARGV[3], ARGV[4], choice.model}, choice.asked)
close_book(book)
redis.call('HSET', KEYS[1], 'state', 'queued', 'chosen', choice.model, 'because', choice.because)
redis.call('HDEL', KEYS[1], 'parked_for', 'parked_until')
redis.call('ZREM', KEYS[2], id)
redis.call('LPUSH', KEYS[6], task[2])
if redis.call('LLEN', KEYS[7]) == 0 then
  redis.call('LPUSH', KEYS[7], '1')
end
return 'queued'
