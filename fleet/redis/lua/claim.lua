-- Claim the right to run a task now.
--
-- KEYS  1 task record  2 leases  3 in_flight of the claiming pool  4 task index
--       5 usage counters  6 reservations  7 counts of waiting tasks  8 policy  9 checkpoints
--       10 until when expiry is on hold  11 facts of the claiming pool
-- ARGV  1 task id  2 agent id  3 pool  4 lease in ms  5 a name for this very claim  6 max crashes
--       7 expected time, 8 tolerance in ms, 9 ms to hold expiry for: the arguments of clock.lua
--       10 tenant, 11 plan for a record that does not exist yet, because the publisher of the message
--       writes none. '' as plan: write none, and return 'unknown'. With a plan: 12 names of its
--       scopes, as JSON  13 version of the policy that the limits belong to  14 nano-dollars,
--       15 tokens that the task is estimated to take  16 limits of everything, 17 of the tenant,
--       18 of the agent type, 19 of the model  20 the delivered message, '' where it is not known
-- Returns {status, fence, tenant, attempts, plan, nano-dollars spent by earlier runs,
--       the model that the task's money is held for, the reason for that model, the limit that has no
--       room for the task, '1' where the run is to stand aside until it begins (begin.lua), names and
--       values of the checkpoints}
--       status  'claimed', 'held' (another run's lease is alive), 'ended', 'unknown',
--               'spent' (as many of its workers died as may, and requeue.lua is about to end it),
--               'replan' (the policy has changed; nothing was written)
-- Moves   new -> queued; queued -> running; running -> running
--
-- Invariant: the fence only grows, and at most one holder has the newest one. A write with an older
-- fence is refused. The fence contains the time: a master that has lost the newest writes of the
-- previous master gives no fence a second time. A claim that is sent again, because the first answer
-- was lost, gets the same fence, and a lease from then on. A delivery that gets no lease leaves no
-- slot taken. For a task that has no reservation the money is held now, as submit.lua does. A task
-- that fits no limit is claimed all the same and holds nothing: its holder ends it. Taking over a run
-- counts as a crash, unless the run stood aside, and no redelivery gives a task one crash more than it
-- may have. A run whose crash would be the last one stands aside first.

local record, leases, in_flight, task_index, money, reservations, waiting_counts, policy,
  checkpoints, expiry_hold, pool_facts = unpack(KEYS)
local id, agent, pool, lease_ms, name, max_crashes, expected_ms, tolerance_ms, hold_ms, tenant,
  plan, scope_names, version, nanodollars, tokens, all_limits, tenant_limits, agent_type_limits,
  model_limits, message = unpack(ARGV)

-- include time
-- include clock
-- include moves
-- include windows
-- include usage_counters
-- include limits
-- include reservation

local function claimed(fence)
  local tenant, attempts, plan, spent, model, reason, refusal, aside =
    unpack(redis.call('HMGET', record, 'tenant', 'attempts', 'plan', 'cost_nanodollars', 'chosen',
      'because', 'refused', 'aside'))
  local saved = redis.call('HGETALL', checkpoints)
  if #saved > 0 then
    redis.call('PERSIST', checkpoints)
  end
  return {'claimed', fence, tenant, attempts, plan, spent or 0, model or '', reason or '',
    refusal or '', aside or '', saved}
end

local state, crashes, republished =
  unpack(redis.call('HMGET', record, 'state', 'crashes', 'republished'))
max_crashes = tonumber(max_crashes)
crashes = tonumber(crashes or 0)
if not state and plan == '' then
  return {'unknown', 0}
end
if not state and (redis.call('HGET', policy, 'version') or '0') ~= version then
  return {'replan', 0}
end
if not state then
  redis.call('HSET', record, 'state', 'queued', 'history', begun('queued', 'submit'),
    'submitted', now, 'routed', pool, 'tenant', tenant, 'plan', plan)
  if message ~= '' then
    redis.call('HSET', record, 'message', message)
  end
  count_waiting(waiting_counts, tenant, 1)
  redis.call('ZADD', task_index, now, id)
  local counters = open_counters(money)
  local names = cjson.decode(scope_names)
  local limits = {all_limits, tenant_limits, agent_type_limits, model_limits}
  local asked = {tonumber(nanodollars), tonumber(tokens), 1, 1}
  local refusal = refusal_of(counters, scopes_of(names), limits, asked, windows_of(now / 1000), now)
  if refusal then
    redis.call('HSET', record, 'refused', described(refusal))
  else
    reserve(counters, reservations, id, names, asked)
    close_counters(counters)
  end
  state = 'queued'
end
local until_ms = now + tonumber(lease_ms)
if state == 'running' and redis.call('HGET', record, 'claim') == name then
  redis.call('HSET', record, 'lease_until', until_ms)
  redis.call('ZADD', leases, until_ms, id)
  return claimed(tonumber(redis.call('HGET', record, 'fence')))
end
local function is_alive()
  if tonumber(redis.call('HGET', record, 'lease_until')) > now then
    return true
  end
  if clock_step(expected_ms, tolerance_ms) ~= 0 then
    hold_expiry(expiry_hold, hold_ms)
  end
  return expiry_is_held(expiry_hold, hold_ms)
end
if state == 'running' and is_alive() then
  if redis.call('HGET', record, 'pool') ~= pool then
    redis.call('SREM', in_flight, id)
  end
  return {'held', 0}
end
if state ~= 'queued' and state ~= 'running' then
  redis.call('SREM', in_flight, id)
  return {'ended', 0}
end
local reason = ''
if state == 'running' and redis.call('HDEL', record, 'aside') == 1 then
  reason = 'taken over, it stood aside when its lease ended'
elseif state == 'running' then
  crashes = crashes + 1
  if crashes >= max_crashes then
    redis.call('SREM', in_flight, id)
    return {'spent', 0}
  end
  redis.call('HSET', record, 'crashes', crashes)
  reason = 'crash ' .. crashes .. ': taken over, its lease had ended'
end
local microseconds = tonumber(time[1]) * 1000000 + tonumber(time[2])
local fence = math.max(microseconds, tonumber(redis.call('HGET', record, 'fence') or 0) + 1)
redis.call('HSET', record, 'fence', string.format('%.0f', fence))
redis.call('HINCRBY', record, 'attempts', 1)
if republished then
  redis.call('HDEL', record, 'republished')
end
move(record, waiting_counts, state, 'running', agent, reason, 'agent', agent, 'pool', pool,
  'lease_until', until_ms, 'started', now, 'claim', name)
if crashes >= max_crashes - 1 then
  redis.call('HSET', record, 'aside', '1')
end
redis.call('ZADD', leases, until_ms, id)
redis.call('SADD', in_flight, id)
redis.call('HINCRBY', pool_facts, 'claimed', 1)
return claimed(fence)
