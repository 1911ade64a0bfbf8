-- Learn the quality of a model from an outcome, or its speed from a timed call.
--
-- KEYS  1 models  2 record of the task that reports it, the models again where no task does
-- ARGV  1 field of the evidence  2 half-life in ms  3 name of this very lesson among those of the
--       task, '' where no task reports it: it counts each time then
--       4 'reward' or 'call'
--       5 the reward's weight  6 the reward, 0 to 1; or  5 output tokens  6 seconds
-- Returns 1; 0 where the task has reported it before, or has no record any more: nothing was written
--
-- Invariant: old evidence fades before new is added, by Redis's clock. A lesson of a task counts once,
-- however often it is sent, and even if several runs resume from the same answer: the task's record
-- has the names of the newest fifty lessons. rate.lua counts the ratings of users.

local models, record = unpack(KEYS)
local field, half_life_ms, lesson, kind, weight_or_tokens, reward_or_seconds = unpack(ARGV)

-- include time
-- include evidence

local names_kept = 50

local function is_new()
  local names = {}
  for name in string.gmatch(redis.call('HGET', record, 'lessons') or '', '[^\n]+') do
    if name == lesson then
      return false
    end
    names[#names + 1] = name
  end
  if #names == names_kept then
    table.remove(names, 1)
  end
  names[#names + 1] = lesson
  redis.call('HSET', record, 'lessons', table.concat(names, '\n'))
  return true
end

if lesson ~= '' and (redis.call('EXISTS', record) == 0 or not is_new()) then
  return 0
end
local sums = faded(models, field, now, tonumber(half_life_ms))
local first, second = tonumber(weight_or_tokens), tonumber(reward_or_seconds)
if kind == 'reward' then
  add_rewards(sums, first, second)
else
  add_call(sums, first, second)
end
keep(models, field, sums, now)
return 1
