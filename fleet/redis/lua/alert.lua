-- Report once that a scope has reached a threshold of a budget.
--
-- KEYS  1 what was reported in the window  2 alerts
-- ARGV  1 scope  2 the thresholds that are reached, rising, with commas between  3 seconds to
--       remember them, longer than the window  4 about how many alerts are kept
--       5... names and values of the alert
-- Returns the id of the alert; '' where the highest threshold was reported before
--
-- Invariant: a threshold of a scope is reported once in a window, even if many processes report and
-- die at any moment. Of several new ones the alert names the highest, and the lower ones count as
-- reported.

local reported, alerts = unpack(KEYS)
local scope, reached, seconds, max_alerts = unpack(ARGV, 1, 4)
local alert = {unpack(ARGV, 5)}

local thresholds = {}
for threshold in string.gmatch(reached, '%d+') do
  thresholds[#thresholds + 1] = threshold .. ' ' .. scope
end
if redis.call('SISMEMBER', reported, thresholds[#thresholds]) == 1 then
  return ''
end
redis.call('SADD', reported, unpack(thresholds))
redis.call('EXPIRE', reported, seconds)
return redis.call('XADD', alerts, 'MAXLEN', '~', max_alerts, '*', unpack(alert))
