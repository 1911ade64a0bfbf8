-- What was learned of a model on a request type, one field of the models' hash:
--   rewards,reward,calls,tokens,seconds,at in ms
-- All are sums. A sum loses half its weight in a half-life, and a two-hundredth of it with each
-- newer reward or call of weight 1. So a sum weighs 200 at most.

local kept_by_count = 1 - 1 / 200

local function faded(hash, field, now, half_life)
  local packed = redis.call('HGET', hash, field) or '0,0,0,0,0,' .. now
  local rewards, reward, calls, tokens, seconds, at =
    string.match(packed, '^([^,]+),([^,]+),([^,]+),([^,]+),([^,]+),(%d+)$')
  local left = 0.5 ^ (math.max(0, now - tonumber(at)) / half_life)
  return {
    rewards = rewards * left, reward = reward * left, calls = calls * left,
    tokens = tokens * left, seconds = seconds * left
  }
end

local function add_rewards(sums, weight, reward)
  local left = kept_by_count ^ weight
  sums.rewards = sums.rewards * left + weight
  sums.reward = sums.reward * left + weight * reward
end

local function add_call(sums, tokens, seconds)
  sums.calls = sums.calls * kept_by_count + 1
  sums.tokens = sums.tokens * kept_by_count + tokens
  sums.seconds = sums.seconds * kept_by_count + seconds
end

local function keep(hash, field, sums, now)
  redis.call('HSET', hash, field, string.format('%.12g,%.12g,%.12g,%.12g,%.12g,%.0f',
    sums.rewards, sums.reward, sums.calls, sums.tokens, sums.seconds, now))
end
