-- Claim the right to run a task now.
--
-- KEYS  1 task record  2 leases  3 in_flight of the claiming pool  4 task index
--       5 money  6 reservations  7 policy
-- ARGV  1 task id  2 agent id  3 pool  4 lease in ms  5 a name for this very claim
--       6 tenant, 7 plan and 8 names of its scopes, as JSON, for a record that does not exist yet:
--       the message came from a publisher that writes none. '' as plan: write none, and say
--       'unknown'. With a plan 9 version of the policy that the limits are of  10 nano-dollars,
--       11 tokens that it is thought to take  12 limits of everything, 13 of the tenant, 14 of the
--       agent type, 15 of the model
-- Returns {status, fence, tenant, attempts, plan, nano-dollars spent by earlier runs,
--       the model that its money is held for, why that one, the limit that has no room for it}
--       status  'claimed', 'held' (another run's lease is alive), 'ended', 'unknown', 'replan' (the
--               policy is another one; nothing was written)
--
-- Invariant: the fence only grows, and at most one holder has the newest one. Whoever
-- writes with an older fence is refused. A claim sent again, because the first answer was
-- lost, gets the same fence. A delivery that gets no lease leaves no slot taken. For a task that
-- nobody has held money for it is held now, as submit.lua does; one that fits no limit is claimed
-- all the same, and holds nothing: its holder ends it.

local function claimed(fence)
  local fields = redis.call('HMGET', KEYS[1], 'tenant', 'attempts', 'plan',
    'cost_nanodollars', 'chosen', 'because', 'refused')
  return {'claimed', fence, fields[1], fields[2], fields[3], fields[4] or 0, fields[5] or '',
    fields[6] or '', fields[7] or ''}
end

-- include time
-- include windows
-- include book
-- include limits
-- include reservation
local state = redis.call('HGET', KEYS[1], 'state')
if not state and ARGV[7] == '' then
  return {'unknown', 0}
end
if not state and (redis.call('HGET', KEYS[7], 'version') or '0') ~= ARGV[9] then
  return {'replan', 0}
end
if not state then
  redis.call('HSET', KEYS[1], 'state', 'queued', 'submitted', now, 'routed', ARGV[3],
    'tenant', ARGV[6], 'plan', ARGV[7])
  redis.call('ZADD', KEYS[4], now, ARGV[1])
  local book = open_book(KEYS[5])
  local names = cjson.decode(ARGV[8])
  local asked = {tonumber(ARGV[10]), tonumber(ARGV[11]), 1, 1}
  local refusal = refusal_of(book, scopes_of(names), {unpack(ARGV, 12, 15)}, asked,
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
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
local until_ms = now + tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'state', 'running', 'agent', ARGV[2], 'pool', ARGV[3],
  'lease_until', until_ms, 'started', now, 'claim', ARGV[5])
redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return claimed(fence)
