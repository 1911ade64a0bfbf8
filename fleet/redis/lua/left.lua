-- Note which tasks have left the queue that another broker has for them.
--
-- KEYS  1 the tasks that were handed over for the queue  2 those of them that have left it and did not
--       begin  then the record of each task that is looked at
-- ARGV  1 how many were handed over when it was looked  2 how many messages the queue had later
--       3 when it was looked, us  4 ms until a task that did not begin is missed  then the ids of the
--       tasks that were handed over first, in order
-- Returns how many have left it
--
-- Invariant: the queue gives out first what it got first. So while a task's message is in it, so are
-- those of all that came later, and it has at least as many messages. Whoever has more behind it
-- than that has left. It may be with a busy worker, or be lost: it is missed (resend.lua) when it has not
-- begun in time, which doubles with each time that it was missed.

-- include time

local most_doublings = 6
local left, messages, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local gone = 0
for k = 3, #KEYS do
  if left <= messages then
    break
  end
  local id = ARGV[k + 2]
  local came = redis.call('ZSCORE', KEYS[1], id)
  if came and tonumber(came) <= tonumber(ARGV[3]) then
    redis.call('ZREM', KEYS[1], id)
    local found = redis.call('HMGET', KEYS[k], 'state', 'missed')
    if found[1] == 'queued' then
      local doublings = math.min(tonumber(found[2] or 0), most_doublings)
      redis.call('ZADD', KEYS[2], now + patience * 2 ^ doublings, id)
    end
    gone = gone + 1
  end
  left = left - 1
end
return gone
