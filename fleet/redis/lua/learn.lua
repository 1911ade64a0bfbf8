-- Learn from an outcome how good a model is, or from a timed call how quick it is.
--
-- KEYS  1 models  2 record of the task that tells it, the models again where none does
-- ARGV  1 field of the evidence  2 half-life in ms  3 name of this very lesson among those of the
--       task, '' where no task tells it: it counts each time then
--       4 'reward' or 'call'
--       5 the reward's weight  6 the reward, 0 to 1; or  5 output tokens  6 seconds
-- Returns 1; 0 where the task has told it before, or has no record any more: nothing was written
--
-- Invariant: old evidence fades before new is added, by Redis's clock. A lesson of a task counts once,
-- however often it is sent, and however many runs go on from the same answer: its record has the
-- names of the newest fifty. What a user says is counted by rate.lua.

-- include time
-- include evidence

local names_kept = 50

local function is_new(record, lesson)
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

if ARGV[3] ~= '' and (redis.call('EXISTS', KEYS[2]) == 0 or not is_new(KEYS[2], ARGV[3])) then
  return 0
end
local sums = faded(KEYS[1], ARGV[1], now, tonumber(ARGV[2]))
if ARGV[4] == 'reward' then
  add_rewards(sums, tonumber(ARGV[5]), tonumber(ARGV[6]))
else
  add_call(sums, tonumber(ARGV[5]), tonumber(ARGV[6]))
end
keep(KEYS[1], ARGV[1], sums, now)
return 1
