-- Take messages from a pool's queues and note them as unacknowledged, in one step.
--
-- KEYS  1 agent  2 the pool's agents  3 its in_flight  4 unacked  5 unacked index
--       then for each queue, in the order to look: the list, its wake list
-- ARGV  1 agent id  2 most messages to take  3 prefix of the delivery tags
--       then for each queue: its name, '1' where its messages hold no slot yet
-- Returns {queue, tag, message, ...}, empty where there is nothing to take; {'maintenance'}
--         where the agent may take nothing now
--
-- Invariant: a message is in its list or in the unacked hash at every moment, so a worker
-- that dies between the two loses nothing; and a wake list holds a token while its queue
-- has messages, so no worker sleeps beside work. An agent in maintenance gets nothing, and
-- puts the token that it was woken with back.

local fixed = 5
local resting = redis.call('HGET', KEYS[1], 'status') == 'maintenance'
local most, prefix = tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
local taken = {}
local count = 0
for i = 0, (#KEYS - fixed) / 2 - 1 do
  local list, wake = KEYS[fixed + i * 2 + 1], KEYS[fixed + i * 2 + 2]
  local queue, holds_no_slot = ARGV[4 + i * 2], ARGV[5 + i * 2] == '1'
  while count < most and not resting do
    local message = redis.call('RPOP', list)
    if not message then
      break
    end
    count = count + 1
    local tag = prefix .. count
    redis.call('HSET', KEYS[4], tag, '[' .. message .. ',"","' .. queue .. '"]')
    redis.call('ZADD', KEYS[5], now, tag)
    if holds_no_slot then
      redis.call('SADD', KEYS[3], cjson.decode(message).headers.id)
    end
    taken[#taken + 1] = queue
    taken[#taken + 1] = tag
    taken[#taken + 1] = message
  end
  if redis.call('EXISTS', list) == 1 and redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, '1')
  end
end
return resting and {'maintenance'} or taken
