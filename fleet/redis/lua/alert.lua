-- Say once that a scope has reached a threshold of a budget.
--
-- KEYS  1 what was said in the window  2 alerts
-- ARGV  1 scope  2 the thresholds that are reached, rising, with commas between  3 seconds to
--       remember them, more than the window lasts  4 about how many alerts are kept
--       5... names and values of the alert
-- Returns the id of the alert; '' where the highest threshold was said before
--
-- Invariant: a threshold of a scope is said once in a window, however many ask and whenever they
-- die. Of several new ones the highest is worded, and those below it count as said.

local thresholds = {}
for threshold in string.gmatch(ARGV[2], '%d+') do
  thresholds[#thresholds + 1] = threshold .. ' ' .. ARGV[1]
end
if redis.call('SISMEMBER', KEYS[1], thresholds[#thresholds]) == 1 then
  return ''
end
redis.call('SADD', KEYS[1], unpack(thresholds))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, 5))
