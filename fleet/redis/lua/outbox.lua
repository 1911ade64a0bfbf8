-- Take messages out of their queues, for the caller to hand to another broker.
--
-- KEYS  1 ids of tasks whose message was taken, by when, us  2 these messages  then for each queue: the
--       queue, its line
-- ARGV  1 most to take  2 ms after which whoever took a message is thought to have died
-- Returns {id, queue, message, when it was taken, us, ...}, who came first first
--
-- Invariant: a message is in its queue, or among those that were taken, until the other broker has
-- confirmed it. What nobody has confirmed in time is taken again: handed over twice at worst, and
-- what comes twice runs once. When it was taken tells this taking from every other (confirm.lua).

-- include time
-- include message

local most, taken = tonumber(ARGV[1]), {}
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local moment = string.format('%.0f', now_us)
local function take(id, queue, message)
  redis.call('ZADD', KEYS[1], moment, id)
  for _, part in ipairs({id, queue, message, moment}) do
    taken[#taken + 1] = part
  end
end

local overdue = string.format('%.0f', now_us - tonumber(ARGV[2]) * 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', overdue, 'LIMIT', 0, most)) do
  local kept = redis.call('HGET', KEYS[2], id)
  if kept then
    local line_end = string.find(kept, '\n', 1, true)
    take(id, string.sub(kept, 1, line_end - 1), string.sub(kept, line_end + 1))
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
for k = 3, #KEYS, 2 do
  while #taken < 4 * most do
    local message = redis.call('RPOP', KEYS[k])
    if not message then
      break
    end
    local id = task_of(message) or redis.sha1hex(message)
    redis.call('ZREM', KEYS[k + 1], id)
    redis.call('HSET', KEYS[2], id, KEYS[k] .. '\n' .. message)
    take(id, KEYS[k], message)
  end
end
return taken
