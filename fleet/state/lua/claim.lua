-- Claim the right to run a task now.
--
-- KEYS  1 task record  2 leases  3 in_flight of the claiming pool  4 task index
--       5 money  6 reservations  7 how many tasks wait
-- ARGV  1 task id  2 agent id  3 pool  4 lease in ms  5 a name for this very claim
--       6 tenant, 7 plan and 8 names of its scopes, as JSON, for a record that does not exist yet:
--       the message came from a publisher that writes none. '' as plan: write none, and say
--       'unknown'
--       9 most crashes
-- Returns {status, fence, tenant, attempts, plan, nano-dollars spent by earlier runs,
--       the model that its money is held for, why that one}
--       status  'claimed', 'held' (another run's lease is alive), 'ended', 'unknown',
--               'spent' (as many of its workers died as may, and requeue.lua is about to end it)
-- Moves   new -> queued; queued -> running; running -> running
--
-- Invariant: the fence only grows, and at most one holder has the newest one. Whoever
-- writes with an older fence is refused. A claim sent again, because the first answer was
-- lost, gets the same fence. A delivery that gets no lease leaves no slot taken. A task that nobody
-- has held money for is in the reservations from now on: each of its steps has to be admitted. A run
-- that is taken over from counts as a crash, and no redelivery gives a task one more than it may have.

local function claimed(fence)
  local fields = redis.call('HMGET', KEYS[1], 'tenant', 'attempts', 'plan',
    'cost_nanodollars', 'chosen', 'because')
  return {'claimed', fence, fields[1], fields[2], fields[3], fields[4] or 0, fields[5] or '',
    fields[6] or ''}
end

-- include time
-- include moves
-- include book
-- include reservation

local state = redis.call('HGET', KEYS[1], 'state')
if not state and ARGV[7] == '' then
  return {'unknown', 0}
end
if not state then
  redis.call('HSET', KEYS[1], 'state', 'queued', 'history', begun('queued', 'submit'),
    'submitted', now, 'routed', ARGV[3], 'tenant', ARGV[6], 'plan', ARGV[7])
  count_waiting(KEYS[7], ARGV[6], 1)
  redis.call('ZADD', KEYS[4], now, ARGV[1])
  local book = open_book(KEYS[5])
  hold(book, scopes_of(cjson.decode(ARGV[8])), {0, 0, 0, 1})
  close_book(book)
  redis.call('HSET', KEYS[6], ARGV[1], packed_amounts({0, 0, 0}, ARGV[8]))
  state = 'queued'
end
if state == 'running' and redis.call('HGET', KEYS[1], 'claim') == ARGV[5] then
  return claimed(tonumber(redis.call('HGET', KEYS[1], 'fence')))
end
if state == 'running' and tonumber(redis.call('HGET', KEYS[1], 'lease_until')) > now then
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
if state == 'running' then
  local crashes = tonumber(redis.call('HGET', KEYS[1], 'crashes') or 0) + 1
  if crashes >= tonumber(ARGV[9]) then
    redis.call('SREM', KEYS[3], ARGV[1])
    return {'spent', 0}
  end
  redis.call('HSET', KEYS[1], 'crashes', crashes)
  why = 'crash ' .. crashes .. ': taken over, its lease had ended'
end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
local until_ms = now + tonumber(ARGV[4])
move(KEYS[1], KEYS[7], state, 'running', ARGV[2], why, 'agent', ARGV[2], 'pool', ARGV[3],
  'lease_until', until_ms, 'started', now, 'claim', ARGV[5])
redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return claimed(fence)
