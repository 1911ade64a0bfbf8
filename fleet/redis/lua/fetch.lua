-- Take messages from a pool's queues and note them as unacknowledged, in one step.
--
-- KEYS  1 agent  2 the pool's agents  3 its in_flight  4 unacked  5 unacked index  6 pool facts
--       7 revoked task ids  8 revoked stamps
--       then for each queue, in the order to look: the list, its wake list, its line
-- ARGV  1 agent id  2 most messages to take  3 prefix of the delivery tags
--       4 ms after which a silent agent is dead  5 how many of them are taken ahead of their slots
--       6 the place of the newest revoked stamp that the worker knows
--       then for each queue: its name, and what it is: 'jobs', 'own', 'overflow' or 'other'
-- Returns {what to listen to, revoked, stamps, queue, tag, message, queue, tag, message, ...}
--       listen  'all' queues; 'own' ones and those of jobs, where the pool's health lets it
--               take no more from overflow queues; 'none', where it is in maintenance
--       revoked the ids of those tasks among the messages that are revoked
--       stamps  each revoked stamp that the worker does not know, and its place
--
-- Invariant: a message is in its list or in the unacked hash at every moment, so a worker
-- that dies between the two loses nothing; and a wake list holds a token while its queue
-- has messages, so no worker sleeps beside work. A task that was taken holds a slot, unless it
-- comes from another pool's queue, or the worker is no agent: it has none. An agent
-- or a pool in maintenance gets nothing, and puts the token that it was woken with back. No job is
-- taken ahead: nobody would give it back, though another worker had a slot for it. A prefix is used
-- once: a fetch that is sent again, since its answer was lost, gets the same messages. Who gets a
-- message is told in the same step whether it had been revoked before.

-- include time
-- include health
-- include message
-- include wake

local fixed, first_queue = 8, 7
local most, prefix, ahead = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[5])
local facts = redis.call('HMGET', KEYS[6], 'slots', 'maintenance', 'health')
local listen = 'all'
local any_revoked, revoked = redis.call('EXISTS', KEYS[7]) == 1, {}
local stamps = redis.call('ZRANGEBYSCORE', KEYS[8], '(' .. ARGV[6], '+inf', 'WITHSCORES')
if facts[2] or redis.call('HGET', KEYS[1], 'status') == 'maintenance' then
  listen, most = 'none', 0
end

local function note_revoked(id)
  if any_revoked and id and redis.call('ZSCORE', KEYS[7], id) then
    revoked[#revoked + 1] = id
  end
end

-- How many tasks the pool's health lets it take beyond those that hold a slot already.
local function allowed()
  if not facts[3] then
    return most
  end
  local live = redis.call('ZCOUNT', KEYS[2], '(' .. (now - tonumber(ARGV[4])), '+inf')
  local open = openings(live * tonumber(facts[1] or 0), false, facts[3], now)
  return math.max(0, open - redis.call('SCARD', KEYS[3]))
end

-- What an earlier fetch of this prefix took, as far as nobody has let go of it since.
local function taken_before()
  local found = {}
  for i = 1, most do
    local noted = redis.call('HGET', KEYS[4], prefix .. i)
    if noted then
      -- By the form in which it is noted below: the message itself may be no JSON.
      local queue = string.match(noted, '^.*,"","([^"]*)"%]$')
      found[#found + 1] = queue
      found[#found + 1] = prefix .. i
      found[#found + 1] = string.sub(noted, 2, -(#queue + 8))
      note_revoked(any_revoked and task_of(found[#found]))
    end
  end
  return found
end

local stamp = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
local taken = {}
local count = 0
local function take(list, line, queue, kind, limit)
  for _ = 1, limit do
    local message = redis.call('RPOP', list)
    if not message then
      return
    end
    count = count + 1
    local tag = prefix .. count
    redis.call('HSET', KEYS[4], tag, '[' .. message .. ',"","' .. queue .. '"]')
    redis.call('ZADD', KEYS[5], stamp, tag)
    local id = (any_revoked or kind ~= 'jobs') and task_of(message)
    note_revoked(id)
    if id and kind ~= 'jobs' then
      if kind ~= 'other' and ARGV[1] ~= '' then
        redis.call('SADD', KEYS[3], id)
      end
      redis.call('ZREM', line, id)
    end
    taken[#taken + 1] = queue
    taken[#taken + 1] = tag
    taken[#taken + 1] = message
  end
end

if most > 0 and redis.call('HEXISTS', KEYS[4], prefix .. '1') == 1 then
  local before = taken_before()
  return {listen, revoked, stamps, unpack(before)}
end
for i = 0, (#KEYS - fixed) / 3 - 1 do
  local list, wake, line = unpack(KEYS, fixed + i * 3 + 1, fixed + i * 3 + 3)
  local queue, kind = ARGV[first_queue + i * 2], ARGV[first_queue + 1 + i * 2]
  local limit = most - count
  if kind == 'jobs' or kind == 'other' then
    limit = limit - ahead
  end
  if kind == 'overflow' and limit > 0 then
    local health_says = allowed()
    if health_says < limit then
      limit, listen = health_says, 'own'
    end
  end
  take(list, line, queue, kind, limit)
  if redis.call('EXISTS', list) == 1 then
    wake_worker(wake)
  end
end
return {listen, revoked, stamps, unpack(taken)}
