-- Submit one task: all of it or nothing.
--
-- KEYS  1 task record  2 task index  3 idempotency key (the record again where none is given)
--       4 overflow queue  5 its wake list
--       then for each ranked pool: facts, agents, in_flight, queue, its wake list
-- ARGV  1 task id  2 message  3 seconds to keep the idempotency key, 0 for none
--       4 fingerprint of the request  5 ms after which a silent agent is dead
--       6 tenant  7 the plan, as JSON, kept with the task
--       8 a rule for each ranked pool, in the order of the keys: name,base,per task,per load;...
-- Returns {status, detail, loads}
--       status  'pool' (detail: the pool's name), 'overflow', 'duplicate' (detail: the first
--               task's id), 'conflict' (the key was used for another request; detail: its
--               task's id), 'no_agent'
--       A task id that is there already is the caller's own, sent again because the first
--       answer was lost: it gets that answer again and nothing is written.
--       loads   one row a pool: live agents,in flight,capacity,successes,outcomes,response
--
-- Invariant: a pool never has more tasks in flight than its live agents have slots, unless
-- an agent leaves; a task whose submission returned is in its record and in one queue.
-- Order: refuse a duplicate, (hold the money), take a slot, write. Nothing is written
-- before the last reason to refuse has been ruled out.

local fixed, per_pool = 5, 5
local id, message, keep, fingerprint = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local known = redis.call('HMGET', KEYS[1], 'routed', 'loads')
if known[1] then
  return {known[1] == '' and 'overflow' or 'pool', known[1], known[2]}
end
if keep > 0 then
  local first = redis.call('GET', KEYS[3])
  if first then
    local space = string.find(first, ' ', 1, true)
    local owner = string.sub(first, 1, space - 1)
    local same = string.sub(first, space + 1) == fingerprint
    return {same and 'duplicate' or 'conflict', owner, ''}
  end
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local alive_since = now - tonumber(ARGV[5])

local chosen, chosen_at, best, best_load = '', fixed, nil, nil
local any_alive = false
local loads = {}
local k = fixed - per_pool
for name, base, per_task, per_load in string.gmatch(ARGV[8], '([^,;]+),([^,]+),([^,]+),([^;]+)') do
  k = k + per_pool
  local live = redis.call('ZCOUNT', KEYS[k + 2], '(' .. alive_since, '+inf')
  local in_flight = redis.call('SCARD', KEYS[k + 3])
  local facts = redis.call('HMGET', KEYS[k + 1], 'slots', 'successes', 'outcomes', 'response')
  local capacity = live * tonumber(facts[1] or 0)
  loads[#loads + 1] = live .. ',' .. in_flight .. ',' .. capacity .. ',' .. (facts[2] or 0) .. ','
    .. (facts[3] or 0) .. ',' .. (facts[4] or 0)
  if live > 0 then
    any_alive = true
  end
  if live > 0 and in_flight < capacity then
    local load = in_flight / capacity
    local total = tonumber(base) + tonumber(per_task) * in_flight + tonumber(per_load) * load
    if chosen == '' or total > best or (total == best and (load < best_load
      or (load == best_load and name < chosen))) then
      chosen, chosen_at, best, best_load = name, k, total, load
    end
  end
end
local packed = table.concat(loads, ';')
if not any_alive then
  return {'no_agent', '', packed}
end

local queue, wake = KEYS[4], KEYS[5]
if chosen ~= '' then
  queue, wake = KEYS[chosen_at + 4], KEYS[chosen_at + 5]
  redis.call('SADD', KEYS[chosen_at + 3], id)
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'submitted', now, 'pool', chosen, 'routed', chosen,
  'loads', packed, 'tenant', ARGV[6], 'plan', ARGV[7], 'message', message)
redis.call('ZADD', KEYS[2], now, id)
if keep > 0 then
  redis.call('SET', KEYS[3], id .. ' ' .. fingerprint, 'EX', keep)
end
redis.call('LPUSH', queue, message)
if redis.call('LLEN', wake) == 0 then
  redis.call('LPUSH', wake, '1')
end
return {chosen == '' and 'overflow' or 'pool', chosen, packed}
