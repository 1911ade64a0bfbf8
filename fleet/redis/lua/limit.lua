-- Keep the evidence that one answer gives of its model's output limit, and end the turn of its call.
--
-- KEYS  1 models  2 alerts
-- ARGV  1 model  2 the call: task id, space, name  3 max tokens that the call asked for
--       4 tokens that the model has written, '' where that is not known  5 1 where this answer alone
--       shows that the limit holds  6 answers in a row within their limit that show the same
--       7 about how many alerts are kept  8... names and values of the alert
-- Returns {the record as it is now, '' where there is none, id of the alert or ''}
--
-- Invariant: a broken limit is reported once, until it was shown to hold again. Only the call that has
-- the turn ends it.

local models, alerts = unpack(KEYS)
local model, call, asked, written, is_proof, enough, max_alerts = unpack(ARGV, 1, 7)
local alert = {unpack(ARGV, 8)}

-- include time

local field, turn, alert_id = 'limit|' .. model, 'turn|' .. model, ''
local taken = redis.call('HGET', models, turn)
if taken and string.match(taken, '^%d+ (.*)$') == call then
  redis.call('HDEL', models, turn)
end
local before = redis.call('HGET', models, field)
if written == '' then
  return {before or '', alert_id}
end

asked, written, enough = tonumber(asked), tonumber(written), tonumber(enough)
local within, largest, at = string.match(before or '0,0,0', '^(%d+),(%d+),(%d+)$')
within, largest, at = tonumber(within), tonumber(largest), tonumber(at)
if written > asked then
  if largest == 0 then
    alert_id = redis.call('XADD', alerts, 'MAXLEN', '~', max_alerts, '*', unpack(alert))
  end
  within, largest, at = 0, math.max(largest, written), now
else
  within = is_proof == '1' and enough or math.min(enough, within + 1)
  if within == enough then
    largest, at = 0, 0
  end
end
local record = string.format('%d,%d,%.0f', within, largest, at)
redis.call('HSET', models, field, record)
return {record, alert_id}
