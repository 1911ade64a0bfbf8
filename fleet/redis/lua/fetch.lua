-- Take messages from a pool's queues and note them as unacknowledged, in one step.
--
-- KEYS  1 agent  2 the pool's agents  3 its in_flight  4 unacked  5 unacked index  6 pool facts
--       7 revoked task ids  8 revoked stamps
--       then for each queue, in the order to look: the list, its wake list, its index
-- ARGV  1 agent id  2 max messages to take  3 prefix of the delivery tags
--       4 ms after which a silent agent is dead  5 how many of the messages are taken ahead of their
--       slots  6 the score of the newest revoked stamp that the worker knows
--       then for each queue: its name, and its kind: 'jobs', 'own', 'overflow' or 'other'
-- Returns {what to listen to, revoked, stamps, queue, tag, message, queue, tag, message, ...}
--       listen  'all' queues; 'own' ones and those of jobs, where the pool's health lets it
--               take no more from overflow queues; 'none', where it is in maintenance
--       revoked the ids of those tasks among the messages that are revoked
--       stamps  each revoked stamp that the worker does not know, and its score
--
-- Invariant: a message is in its list or in the unacked hash at every moment, so a worker
-- that dies between the two loses nothing. A wake list holds a token while its queue
-- has messages, so no worker sleeps beside work. A task that was taken holds a slot, unless it
-- comes from another pool's queue, or the worker is no agent and has no slots. An agent
-- or a pool in maintenance gets nothing, and puts the token that woke it back. No job is
-- taken ahead: nobody would give it back, even if another worker had a slot for it. A prefix is used
-- once: a fetch that is sent again, because its answer was lost, gets the same messages. The same step
-- tells the worker whether a message had been revoked before.

-- include groups

local agent, agents, in_flight, unacked, unacked_index, pool_facts, revoked_ids, revoked_stamps =
  unpack(KEYS, 1, 8)
local agent_id, max, prefix, silence_ms, ahead, newest_stamp = unpack(ARGV, 1, 6)
local next_list, queues = groups(KEYS, 9, 3), groups(ARGV, 7, 2)

-- include time
-- include health
-- include message
-- include wake

max, ahead = tonumber(max), tonumber(ahead)
local slots, maintenance, health =
  unpack(redis.call('HMGET', pool_facts, 'slots', 'maintenance', 'health'))
local listen = 'all'
local any_revoked, revoked = redis.call('EXISTS', revoked_ids) == 1, {}
local stamps = redis.call('ZRANGEBYSCORE', revoked_stamps, '(' .. newest_stamp, '+inf',
  'WITHSCORES')
if maintenance or redis.call('HGET', agent, 'status') == 'maintenance' then
  listen, max = 'none', 0
end

local function note_revoked(id)
  if any_revoked and id and redis.call('ZSCORE', revoked_ids, id) then
    revoked[#revoked + 1] = id
  end
end

-- The messages that an earlier fetch of this prefix took and that are still unacknowledged.
local function taken_before()
  local found = {}
  for i = 1, max do
    local noted = redis.call('HGET', unacked, prefix .. i)
    if noted then
      -- Parsed by the form that is written below: the message itself may be no JSON.
      local queue = string.match(noted, '^.*,"","([^"]*)"%]$')
      found[#found + 1] = queue
      found[#found + 1] = prefix .. i
      found[#found + 1] = string.sub(noted, 2, -(#queue + 8))
      note_revoked(any_revoked and task_of(found[#found]))
    end
  end
  return found
end

if max > 0 and redis.call('HEXISTS', unacked, prefix .. '1') == 1 then
  local before = taken_before()
  return {listen, revoked, stamps, unpack(before)}
end
local stamp = time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
local taken, count = {}, 0
for queue, kind in queues do
  local list, wake, index = next_list()
  local limit = max - count
  if kind == 'jobs' or kind == 'other' then
    limit = limit - ahead
  end
  if kind == 'overflow' and limit > 0 and health then
    -- The pool's health may let it take fewer tasks beyond those that hold a slot already.
    local live = redis.call('ZCOUNT', agents, '(' .. (now - tonumber(silence_ms)), '+inf')
    local open = openings(live * tonumber(slots or 0), false, health, now)
    local allowed = math.max(0, open - redis.call('SCARD', in_flight))
    if allowed < limit then
      limit, listen = allowed, 'own'
    end
  end
  for _ = 1, limit do
    local message = redis.call('RPOP', list)
    if not message then
      break
    end
    count = count + 1
    local tag = prefix .. count
    redis.call('HSET', unacked, tag, '[' .. message .. ',"","' .. queue .. '"]')
    redis.call('ZADD', unacked_index, stamp, tag)
    local id = (any_revoked or kind ~= 'jobs') and task_of(message)
    note_revoked(id)
    if id and kind ~= 'jobs' then
      if kind ~= 'other' and agent_id ~= '' then
        redis.call('SADD', in_flight, id)
      end
      redis.call('ZREM', index, id)
    end
    taken[#taken + 1] = queue
    taken[#taken + 1] = tag
    taken[#taken + 1] = message
  end
  if redis.call('EXISTS', list) == 1 then
    wake_worker(wake)
  end
end
return {listen, revoked, stamps, unpack(taken)}
