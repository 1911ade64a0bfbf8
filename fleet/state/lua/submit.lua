-- Submit tasks that share a plan, each of them wholly or not at all.
--
-- KEYS  1 task index  2 overflow queue  3 its wake list
--       then for each ranked pool: facts, agents, in_flight, queue, its wake list
--       then for each task: its record, its idempotency key (the record again where none is given)
-- ARGV  1 ms after which a silent agent is dead  2 the plan, as JSON, kept with each task
--       3 how many pools are ranked  4 a rule for each of them, in the order of the keys:
--       name,base,per task,per load;...
--       then for each task: id, message, tenant, seconds to keep the idempotency key (0 for
--       none), fingerprint of the request
-- Returns {status, detail, loads} for each task
--       status  'pool' (detail: the pool's name), 'overflow', 'duplicate' (detail: the first
--               task's id), 'conflict' (the key was used for another request; detail: its
--               task's id), 'no_agent'
--       A task id that is there already is the caller's own, sent again because the first
--       answer was lost: it gets that answer again and nothing is written.
--       loads   one row a pool: live agents,in flight,capacity,successes,outcomes,response
--
-- Invariant: a pool never has more tasks in flight than its live agents have slots, unless
-- an agent leaves; a task whose submission returned is in its record and in one queue.
-- Order for each task: refuse a duplicate, (hold the money), take a slot, write. Nothing of
-- it is written before the last reason to refuse has been ruled out.

local fixed, per_pool, first_task, per_task_args = 3, 5, 4, 5
local plan, pool_count = ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local alive_since = now - tonumber(ARGV[1])

local pools = {}
local any_alive = false
for name, base, per_task, per_load in string.gmatch(ARGV[4], '([^,;]+),([^,]+),([^,]+),([^;]+)') do
  local k = fixed + #pools * per_pool
  local live = redis.call('ZCOUNT', KEYS[k + 2], '(' .. alive_since, '+inf')
  local facts = redis.call('HMGET', KEYS[k + 1], 'slots', 'successes', 'outcomes', 'response')
  any_alive = any_alive or live > 0
  pools[#pools + 1] = {
    name = name, base = tonumber(base), per_task = tonumber(per_task),
    per_load = tonumber(per_load), live = live, in_flight = redis.call('SCARD', KEYS[k + 3]),
    capacity = live * tonumber(facts[1] or 0), in_flight_key = KEYS[k + 3],
    queue = KEYS[k + 4], wake = KEYS[k + 5],
    facts = (facts[2] or 0) .. ',' .. (facts[3] or 0) .. ',' .. (facts[4] or 0)
  }
end

local function loads()
  local rows = {}
  for i, pool in ipairs(pools) do
    rows[i] = pool.live .. ',' .. pool.in_flight .. ',' .. pool.capacity .. ',' .. pool.facts
  end
  return table.concat(rows, ';')
end

local function best_with_room()
  local chosen, best, best_load = nil, nil, nil
  for _, pool in ipairs(pools) do
    if pool.live > 0 and pool.in_flight < pool.capacity then
      local load = pool.in_flight / pool.capacity
      local total = pool.base + pool.per_task * pool.in_flight + pool.per_load * load
      if chosen == nil or total > best or (total == best and (load < best_load
        or (load == best_load and pool.name < chosen.name))) then
        chosen, best, best_load = pool, total, load
      end
    end
  end
  return chosen
end

local function first_of(once_key, fingerprint)
  local first = redis.call('GET', once_key)
  if not first then
    return nil
  end
  local space = string.find(first, ' ', 1, true)
  local same = string.sub(first, space + 1) == fingerprint
  return {same and 'duplicate' or 'conflict', string.sub(first, 1, space - 1), ''}
end

local overflow = {name = '', queue = KEYS[2], wake = KEYS[3]}

local function submit(record, once_key, id, message, tenant, keep, fingerprint)
  local known = redis.call('HMGET', record, 'routed', 'loads')
  if known[1] then
    return {known[1] == '' and 'overflow' or 'pool', known[1], known[2]}
  end
  local first = keep ~= '0' and first_of(once_key, fingerprint)
  if first then
    return first
  end
  local packed = loads()
  if not any_alive then
    return {'no_agent', '', packed}
  end
  local place = best_with_room() or overflow
  if place ~= overflow then
    redis.call('SADD', place.in_flight_key, id)
    place.in_flight = place.in_flight + 1
  end
  redis.call('HSET', record, 'state', 'queued', 'submitted', now, 'pool', place.name,
    'routed', place.name, 'loads', packed, 'tenant', tenant, 'plan', plan, 'message', message)
  redis.call('ZADD', KEYS[1], now, id)
  if keep ~= '0' then
    redis.call('SET', once_key, id .. ' ' .. fingerprint, 'EX', keep)
  end
  redis.call('LPUSH', place.queue, message)
  if not place.woken and redis.call('LLEN', place.wake) == 0 then
    redis.call('LPUSH', place.wake, '1')
  end
  place.woken = true
  return {place == overflow and 'overflow' or 'pool', place.name, packed}
end

local answers = {}
local k = fixed + pool_count * per_pool
for a = first_task + 1, #ARGV, per_task_args do
  answers[#answers + 1] = submit(KEYS[k + 1], KEYS[k + 2], unpack(ARGV, a, a + per_task_args - 1))
  k = k + 2
end
return answers
