-- Keep what one answer has shown of the output limit of its model, and end the turn of its call.
--
-- KEYS  1 models  2 alerts
-- ARGV  1 model  2 the call: task id, space, name  3 tokens that it was asked to take at most
--       4 tokens that it has written, '' where that is not known  5 1 where it alone shows that the
--       limit holds  6 answers in a row within their limit that show the same
--       7 about how many alerts are kept  8... names and values of the alert
-- Returns {the record as it is now, '' where there is none, id of the alert or ''}
--
-- Invariant: of a limit that is broken an alert is said once, until it was shown to hold again. Only
-- the call that has the turn ends it.

-- include time

local model, call, alert = ARGV[1], ARGV[2], ''
local field, turn = 'limit|' .. model, 'turn|' .. model
local taken = redis.call('HGET', KEYS[1], turn)
if taken and string.match(taken, '^%d+ (.*)$') == call then
  redis.call('HDEL', KEYS[1], turn)
end
local before = redis.call('HGET', KEYS[1], field)
if ARGV[4] == '' then
  return {before or '', alert}
end

local asked, written, enough = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
local within, largest, at = string.match(before or '0,0,0', '^(%d+),(%d+),(%d+)$')
within, largest, at = tonumber(within), tonumber(largest), tonumber(at)
if written > asked then
  if largest == 0 then
    alert = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[7], '*', unpack(ARGV, 8))
  end
  within, largest, at = 0, math.max(largest, written), now
else
  within = ARGV[5] == '1' and enough or math.min(enough, within + 1)
  if within == enough then
    largest, at = 0, 0
  end
end
local record = string.format('%d,%d,%.0f', within, largest, at)
redis.call('HSET', KEYS[1], field, record)
return {record, alert}
