-- Submit tasks of several plans: all of them, or none.
--
-- KEYS  those of submit.lua for each plan, one plan after the other
-- ARGV  1 the number of plans  then for each plan: how many keys and how many arguments it has
--       then the arguments of submit.lua for each plan, one plan after the other
-- Returns {version of the policy, ms since 1970, models, answers...}, as submit.lua does, for all
--       tasks in their order. Where a task is refused its answer is the last, and nothing was written
-- Moves   new -> queued, delayed, parked
--
-- Invariant: that of submit.lua; and nobody ever sees some of these tasks without the others. The
-- tasks are placed one after the other, so that each counts for the next. Where one is refused, the
-- counters are not closed, and everything else that was written is removed in the same step.

local function sections(count)
  local found, first_key, first_argument = {}, 1, 2 + 2 * count
  for number = 1, count do
    local keys, arguments = unpack(ARGV, 2 * number, 2 * number + 1)
    local after_keys, after_arguments = first_key + keys, first_argument + arguments
    found[number] = {
      keys = {unpack(KEYS, first_key, after_keys - 1)},
      arguments = {unpack(ARGV, first_argument, after_arguments - 1)}
    }
    first_key, first_argument = after_keys, after_arguments
  end
  return found
end
local plan_count = unpack(ARGV, 1, 1)
local plans = sections(tonumber(plan_count))
local policy, models, money = unpack(KEYS, 1, 3)
local _, wants_models = unpack(plans[1].arguments, 1, 2)

-- include groups
-- include time
-- include queue_index
-- include moves
-- include health
-- include pool_counts
-- include windows
-- include usage_counters
-- include limits
-- include reservation
-- include choice
-- include on_hold
-- include wake
-- include placing

local version = redis.call('HGET', policy, 'version') or '0'
local answers = {version, now, wants_models == '1' and redis.call('HGETALL', models)}
for _, plan in ipairs(plans) do
  local version_of_plan = unpack(plan.arguments, 1, 1)
  if version_of_plan ~= version then
    return answers
  end
end

local counters, undo = open_counters(money), {wakes = {}}
for _, plan in ipairs(plans) do
  local placed, is_refused = place_tasks(plan.keys, plan.arguments, counters, undo)
  for _, answer in ipairs(placed) do
    answers[#answers + 1] = answer
  end
  if is_refused then
    for i = #undo, 1, -1 do
      undo[i]()
    end
    return answers
  end
end
close_counters(counters)
for wake in pairs(undo.wakes) do
  wake_worker(wake)
end
return answers
