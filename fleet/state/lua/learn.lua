-- Learn from an outcome how good a model is, or from a timed call how quick it is.
--
-- KEYS  1 models
-- ARGV  1 field of the evidence  2 half-life in ms
--       3 'reward' or 'call'
--       4 the reward's weight  5 the reward, 0 to 1; or  4 output tokens  5 seconds
-- Returns 1
--
-- Invariant: old evidence fades before new is added, by Redis's clock. Sent twice it counts
-- twice, which one of many outcomes may; what a user says is counted by rate.lua.

-- include time
-- include evidence

local sums = faded(KEYS[1], ARGV[1], now, tonumber(ARGV[2]))
if ARGV[3] == 'reward' then
  add_rewards(sums, tonumber(ARGV[4]), tonumber(ARGV[5]))
else
  add_call(sums, tonumber(ARGV[4]), tonumber(ARGV[5]))
end
keep(KEYS[1], ARGV[1], sums, now)
return 1
