-- How many calls at once a pool's providers allow, as one field of the pool's facts:
--   provider  slots,ms of the last refusal
-- Additive increase, multiplicative decrease (D.-M. Chiu and R. Jain, 1989). A run that ends because
-- every model is at its rate limit takes a fourth off what ran. Each ten seconds without one add a slot:
-- fleet/scaling/rules/readings.py, provider_slots. Refusals within five seconds are one. Needs time.

local function note_refusal(facts, running)
  local slots, at = string.match(redis.call('HGET', facts, 'provider') or '', '^(%d+),(%d+)$')
  local passed = at and now - at
  if passed and passed < 5000 then
    return
  end
  local known = slots and slots + math.floor(passed / 10000) or running
  redis.call('HSET', facts, 'provider',
    string.format('%d,%.0f', math.max(1, math.floor(math.min(known, running) * 0.75)), now))
end
