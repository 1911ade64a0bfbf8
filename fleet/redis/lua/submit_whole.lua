-- Submit tasks of several plans: all of them, or none.
--
-- KEYS  those of submit.lua for each plan, one after the other
-- ARGV  1 how many plans there are, then for each how many keys and arguments it has
--       then the arguments of submit.lua for each plan, one after the other
-- Returns {version of the policy, ms since 1970, models, answers...}, as submit.lua does for all tasks
--       in their order. Where one is refused its answer is the last, and nothing was written
-- Moves   new -> queued, delayed, parked
--
-- Invariant: that of submit.lua; and of these tasks nobody ever sees some and not the others. They
-- are placed one after the other, so that each counts for the next, and taken back where one is
-- refused: its book is not closed, and what else was written is removed in this same step.

-- include time
-- include line
-- include moves
-- include health
-- include row
-- include windows
-- include book
-- include limits
-- include reservation
-- include choice
-- include parked
-- include wake
-- include placing

local function sections()
  local found, key, argument = {}, 0, 1 + 2 * tonumber(ARGV[1])
  for i = 2, 2 * tonumber(ARGV[1]), 2 do
    local section = {keys = {}, arguments = {}}
    for n = 1, tonumber(ARGV[i]) do
      section.keys[n] = KEYS[key + n]
    end
    for n = 1, tonumber(ARGV[i + 1]) do
      section.arguments[n] = ARGV[argument + n]
    end
    key, argument = key + tonumber(ARGV[i]), argument + tonumber(ARGV[i + 1])
    found[#found + 1] = section
  end
  return found
end

local plans = sections()
local first = plans[1]
local version = redis.call('HGET', first.keys[4], 'version') or '0'
local answers = {version, now, first.arguments[7] == '1' and redis.call('HGETALL', first.keys[5])}
for _, plan in ipairs(plans) do
  if plan.arguments[6] ~= version then
    return answers
  end
end

local book, undo = open_book(first.keys[6]), {wakes = {}}
for _, plan in ipairs(plans) do
  local placed, is_refused = place_tasks(plan.keys, plan.arguments, book, undo)
  for _, answer in ipairs(placed) do
    answers[#answers + 1] = answer
  end
  if is_refused then
    for i = #undo, 1, -1 do
      undo[i][1](unpack(undo[i], 2, 7))
    end
    return answers
  end
end
close_book(book)
for wake in pairs(undo.wakes) do
  wake_worker(wake)
end
return answers
