-- Queue a delayed task or a task on hold whose time has come, if its cost fits now. Otherwise it is on
-- hold.
--
-- KEYS  1 task record  2 tasks on hold  3 policy  4 usage counters  5 reservations  6 overflow queue
--       7 its wake list  8 delayed tasks  9 index of the overflow queue  10 counts of waiting tasks
-- ARGV  1 task id  2 version of the policy that the limits belong to  3 tenant  4 agent type
--       5 limits of everything, 6 of the tenant, 7 of the agent type  8 'wait' where a delayed task
--       that fits no model goes on hold, else it is refused  9 share of a limit from which on a
--       cheaper model is taken  10 the other models, as JSON, and the planned one: 11 model,
--       12 nano-dollars, 13 tokens, 14 its limits, 15 reason, see parts/choice.lua
-- Returns {status, detail}: 'queued', 'parked' where it waits on, 'gone' where it does not wait (any
--       more), 'replan' where the policy has changed, 'over' where it is refused (detail: see
--       parts/limits.lua). In the last two nothing was written
-- Moves   delayed -> queued, parked; parked -> queued
--
-- Invariant: a delayed task is among the delayed ones, a task on hold among those on hold, and neither
-- is in a queue. The money is held when the task is queued, as at a submission. A task that is to be
-- tried again at a certain time is not queued earlier, for whatever reason it is looked at.

local record, on_hold, policy, money, reservations, overflow_queue, overflow_wake, delayed,
  overflow_index, waiting_counts = unpack(KEYS)
local id, version, tenant, agent_type, all_limits, tenant_limits, agent_type_limits, on_refusal,
  nearly, other_models, model, nanodollars, tokens, model_limits, reason = unpack(ARGV)

-- include time
-- include queue_index
-- include moves
-- include windows
-- include usage_counters
-- include limits
-- include reservation
-- include choice
-- include on_hold
-- include wake

local state, message, retry_at =
  unpack(redis.call('HMGET', record, 'state', 'message', 'retry_at'))
retry_at = tonumber(retry_at or 0)
if state ~= 'parked' then
  redis.call('ZREM', on_hold, id)
end
if state ~= 'delayed' then
  redis.call('ZREM', delayed, id)
end
if state ~= 'parked' and state ~= 'delayed' then
  return {'gone', ''}
end
if (redis.call('HGET', policy, 'version') or '0') ~= version then
  return {'replan', ''}
end
if retry_at > now then
  redis.call('ZADD', on_hold, retry_at, id)
  return {'parked', ''}
end
local counters = open_counters(money)
local choices = choices_of(other_models, model, nanodollars, tokens, model_limits, reason)
local choice, refusal = choose(counters, {'all', 'tenant:' .. tenant, 'agent_type:' .. agent_type},
  {all_limits, tenant_limits, agent_type_limits}, choices, tonumber(nearly),
  windows_of(now / 1000), now)
if not choice and state == 'delayed' and (on_refusal ~= 'wait' or refusal.wait_ms < 0) then
  return {'over', described(refusal)}
elseif not choice then
  if state == 'delayed' then
    redis.call('ZREM', delayed, id)
    move(record, waiting_counts, state, 'parked', 'schedule', 'limit')
  end
  redis.call('HSET', record, 'parked_for', described(refusal),
    'parked_until', may_fit_at(now, refusal.wait_ms))
  redis.call('ZADD', on_hold, look_again_at(now, refusal.wait_ms), id)
  return {'parked', ''}
end
reserve(counters, reservations, id, {tenant, agent_type, choice.model}, choice.asked)
close_counters(counters)
move(record, waiting_counts, state, 'queued', 'schedule', '', 'chosen', choice.model,
  'because', choice.reason)
redis.call('HDEL', record, 'parked_for', 'parked_until', 'retry_at')
redis.call('ZREM', on_hold, id)
redis.call('ZREM', delayed, id)
redis.call('LPUSH', overflow_queue, message)
index_last(overflow_index, id)
wake_worker(overflow_wake)
return {'queued', ''}
