-- Queue a delayed or parked task whose time has come, if its cost fits now; else it is parked.
--
-- KEYS  1 task record  2 parked tasks  3 policy  4 money  5 reservations  6 overflow queue
--       7 its wake list  8 delayed tasks  9 line of the overflow queue  10 how many tasks wait
-- ARGV  1 task id  2 version of the policy that the limits are of  3 tenant  4 agent type
--       5 limits of everything, 6 of the tenant, 7 of the agent type  8 share of a limit from which
--       on a cheaper model is taken  9 to 14 the models to choose from, see parts/choice.lua  15 what
--       becomes of a delayed task that fits no model: 'wait', or else it is refused
-- Returns {status, detail}: 'queued', 'parked' where it waits on, 'gone' where it does not wait (any
--       more), 'replan' where the policy has changed, 'over' where it is refused (detail: see
--       parts/limits.lua). In the last two nothing was written
-- Moves   delayed -> queued, parked; parked -> queued
--
-- Invariant: a delayed task is among the delayed ones, a parked one among the parked ones, and in no
-- queue; its money is held when it is queued, as at a submission. What is to be tried again at a time
-- is not queued before it, whatever else has it looked at.

-- include time
-- include line
-- include moves
-- include windows
-- include book
-- include limits
-- include reservation
-- include choice
-- include parked
-- include wake

local id = ARGV[1]
local task = redis.call('HMGET', KEYS[1], 'state', 'message', 'retry_at')
local state, message, retry_at = task[1], task[2], tonumber(task[3] or 0)
if state ~= 'parked' then
  redis.call('ZREM', KEYS[2], id)
end
if state ~= 'delayed' then
  redis.call('ZREM', KEYS[8], id)
end
if state ~= 'parked' and state ~= 'delayed' then
  return {'gone', ''}
end
if (redis.call('HGET', KEYS[3], 'version') or '0') ~= ARGV[2] then
  return {'replan', ''}
end
if retry_at > now then
  redis.call('ZADD', KEYS[2], retry_at, id)
  return {'parked', ''}
end
local book, windows = open_book(KEYS[4]), windows_of(now / 1000)
local choice, refusal = choose(book, {'all', 'tenant:' .. ARGV[3], 'agent_type:' .. ARGV[4]},
  {ARGV[5], ARGV[6], ARGV[7]}, read_choices(8), tonumber(ARGV[8]), windows, now)
if not choice and state == 'delayed' and (ARGV[15] ~= 'wait' or refusal[8] < 0) then
  return {'over', told(refusal)}
elseif not choice then
  if state == 'delayed' then
    redis.call('ZREM', KEYS[8], id)
    move(KEYS[1], KEYS[10], state, 'parked', 'schedule', 'limit')
  end
  redis.call('HSET', KEYS[1], 'parked_for', told(refusal),
    'parked_until', may_fit_at(now, refusal[8]))
  redis.call('ZADD', KEYS[2], look_again_at(now, refusal[8]), id)
  return {'parked', ''}
end
reserve(book, KEYS[5], id, {ARGV[3], ARGV[4], choice.model}, choice.asked)
close_book(book)
move(KEYS[1], KEYS[10], state, 'queued', 'schedule', '', 'chosen', choice.model,
  'because', choice.because)
redis.call('HDEL', KEYS[1], 'parked_for', 'parked_until', 'retry_at')
redis.call('ZREM', KEYS[2], id)
redis.call('ZREM', KEYS[8], id)
redis.call('LPUSH', KEYS[6], message)
stand_last(KEYS[9], id)
wake_worker(KEYS[7])
return {'queued', ''}
