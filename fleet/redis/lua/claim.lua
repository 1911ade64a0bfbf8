-- Claim the right to run a task now.
--
-- KEYS  1 task record  2 leases  3 in_flight of the claiming pool  4 task index
--       5 money  6 reservations  7 how many tasks wait  8 policy  9 what is saved
--       10 until when expiry is on hold
-- ARGV  1 task id  2 agent id  3 pool  4 lease in ms  5 a name for this very claim  6 most crashes
--       7 tenant, 8 plan for a record that does not exist yet: the message came from a publisher
--       that writes none. '' as plan: write none, and say 'unknown'. With a plan 9 names of its
--       scopes, as JSON  10 version of the policy that the limits are of  11 nano-dollars, 12
--       tokens that it is thought to take  13 limits of everything, 14 of the tenant, 15 of the
--       agent type, 16 of the model  17 the message that was delivered, '' where it is not known
--       The last three are ARGV 1 to 3 of clock.lua
-- Returns {status, fence, tenant, attempts, plan, nano-dollars spent by earlier runs,
--       the model that its money is held for, why that one, the limit that has no room for it,
--       '1' where the run is to stand aside until it begins (begin.lua), names and values of what
--       earlier runs have saved}
--       status  'claimed', 'held' (another run's lease is alive), 'ended', 'unknown',
--               'spent' (as many of its workers died as may, and requeue.lua is about to end it),
--               'replan' (the policy is another one; nothing was written)
-- Moves   new -> queued; queued -> running; running -> running
--
-- Invariant: the fence only grows, and at most one holder has the newest one. Whoever
-- writes with an older fence is refused. The time is in it: a master that has lost the newest writes
-- of the one before it gives no fence a second time. A claim sent again, because the first answer was
-- lost, gets the same fence, and a lease from then on. A delivery that gets no lease leaves no slot
-- taken. For a task that nobody has held money for it is held now, as submit.lua does; one that fits
-- no limit is claimed all the same, and holds nothing: its holder ends it. A run that is taken over
-- from counts as a crash, unless it stood aside, and no redelivery gives a task one more than it may
-- have. A run whose crash would be the last one stands aside first.

local function claimed(fence)
  local fields = redis.call('HMGET', KEYS[1], 'tenant', 'attempts', 'plan',
    'cost_nanodollars', 'chosen', 'because', 'refused', 'aside')
  local saved = redis.call('HGETALL', KEYS[9])
  if #saved > 0 then
    redis.call('PERSIST', KEYS[9])
  end
  return {'claimed', fence, fields[1], fields[2], fields[3], fields[4] or 0, fields[5] or '',
    fields[6] or '', fields[7] or '', fields[8] or '', saved}
end

-- include time
-- include clock
-- include moves
-- include windows
-- include book
-- include limits
-- include reservation

local state, crashes, republished =
  unpack(redis.call('HMGET', KEYS[1], 'state', 'crashes', 'republished'))
local most_crashes = tonumber(ARGV[6])
crashes = tonumber(crashes or 0)
if not state and ARGV[8] == '' then
  return {'unknown', 0}
end
if not state and (redis.call('HGET', KEYS[8], 'version') or '0') ~= ARGV[10] then
  return {'replan', 0}
end
if not state then
  redis.call('HSET', KEYS[1], 'state', 'queued', 'history', begun('queued', 'submit'),
    'submitted', now, 'routed', ARGV[3], 'tenant', ARGV[7], 'plan', ARGV[8])
  if ARGV[17] ~= '' then
    redis.call('HSET', KEYS[1], 'message', ARGV[17])
  end
  count_waiting(KEYS[7], ARGV[7], 1)
  redis.call('ZADD', KEYS[4], now, ARGV[1])
  local book = open_book(KEYS[5])
  local names = cjson.decode(ARGV[9])
  local asked = {tonumber(ARGV[11]), tonumber(ARGV[12]), 1, 1}
  local refusal = refusal_of(book, scopes_of(names), {unpack(ARGV, 13, 16)}, asked,
    windows_of(now / 1000), now)
  if refusal then
    redis.call('HSET', KEYS[1], 'refused', told(refusal))
  else
    reserve(book, KEYS[6], ARGV[1], names, asked)
    close_book(book)
  end
  state = 'queued'
end
if state == 'running' and redis.call('HGET', KEYS[1], 'claim') == ARGV[5] then
  local until_ms = now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'lease_until', until_ms)
  redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
  return claimed(tonumber(redis.call('HGET', KEYS[1], 'fence')))
end
local function is_alive()
  if tonumber(redis.call('HGET', KEYS[1], 'lease_until')) > now then
    return true
  end
  local expected, most, hold = unpack(ARGV, #ARGV - 2)
  if clock_step(expected, most) ~= 0 then
    hold_expiry(KEYS[10], hold)
  end
  return expiry_is_held(KEYS[10], hold)
end
if state == 'running' and is_alive() then
  if redis.call('HGET', KEYS[1], 'pool') ~= ARGV[3] then
    redis.call('SREM', KEYS[3], ARGV[1])
  end
  return {'held', 0}
end
if state ~= 'queued' and state ~= 'running' then
  redis.call('SREM', KEYS[3], ARGV[1])
  return {'ended', 0}
end
local why = ''
if state == 'running' and redis.call('HDEL', KEYS[1], 'aside') == 1 then
  why = 'taken over, it stood aside when its lease ended'
elseif state == 'running' then
  crashes = crashes + 1
  if crashes >= most_crashes then
    redis.call('SREM', KEYS[3], ARGV[1])
    return {'spent', 0}
  end
  redis.call('HSET', KEYS[1], 'crashes', crashes)
  why = 'crash ' .. crashes .. ': taken over, its lease had ended'
end
local microseconds = tonumber(time[1]) * 1000000 + tonumber(time[2])
local fence = math.max(microseconds, tonumber(redis.call('HGET', KEYS[1], 'fence') or 0) + 1)
redis.call('HSET', KEYS[1], 'fence', string.format('%.0f', fence))
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
if republished then
  redis.call('HDEL', KEYS[1], 'republished')
end
local until_ms = now + tonumber(ARGV[4])
move(KEYS[1], KEYS[7], state, 'running', ARGV[2], why, 'agent', ARGV[2], 'pool', ARGV[3],
  'lease_until', until_ms, 'started', now, 'claim', ARGV[5])
if crashes >= most_crashes - 1 then
  redis.call('HSET', KEYS[1], 'aside', '1')
end
redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return claimed(fence)
