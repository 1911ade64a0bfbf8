-- Place tasks that share a plan, each of them wholly or not at all: the work of submit.lua for one
-- plan, and of submit_whole.lua for several. `keys` and `arguments` are the lists that the head of
-- submit.lua states. Needs groups, time, queue_index, moves, health, pool_counts, windows,
-- usage_counters, limits, reservation, choice, on_hold and wake.

local refused = {over = true, busy = true, no_agent = true, conflict = true}

-- The arguments by name. The closures below share this one table: that costs less than a captured
-- variable for each.
local function named(keys, arguments)
  local _, _, _, task_index, reservations, on_hold, delayed, waiting_counts,
    overflow_queue, overflow_wake, overflow_index = unpack(keys, 1, 11)
  local _, _, silence_ms, plan, request_type, pinned, pool_count, rules, max_in_queue,
    max_of_tenant, agent_type, all_limits, tenant_limits, agent_type_limits, on_refusal, nearly,
    other_models, model, nanodollars, tokens, model_limits, reason, asking_tenant =
    unpack(arguments, 1, 23)
  return {
    task_index = task_index, reservations = reservations, on_hold = on_hold, delayed = delayed,
    waiting_counts = waiting_counts,
    overflow = {
      name = '', queue = overflow_queue, wake = overflow_wake, index = overflow_index
    },
    next_pool = groups(keys, 12, 7), next_record = groups(keys, 12 + pool_count * 7, 2),
    silence_ms = tonumber(silence_ms), text = plan, request_type = request_type,
    is_pinned = pinned == '1', rules = rules, max_in_queue = tonumber(max_in_queue),
    max_of_tenant = tonumber(max_of_tenant), agent_type = agent_type,
    limits = {all_limits, tenant_limits, agent_type_limits}, may_wait = on_refusal == 'wait',
    nearly = tonumber(nearly),
    choices = choices_of(other_models, model, nanodollars, tokens, model_limits, reason),
    asking_tenant = asking_tenant, tasks = groups(arguments, 24, 6)
  }
end

-- Returns the answers that the head of submit.lua states. With `undo` it stops at the first task that
-- is refused, and returns true as well. It adds to `undo` the calls that take the written tasks back,
-- to be made from the last to the first, and to `undo.wakes` the wake lists of the queues.
local function place_tasks(keys, arguments, counters, undo)
  local plan = named(keys, arguments)
  local overflow = plan.overflow
  local pools, types = {}, {'stat:' .. plan.request_type}
  local any_alive, free = false, 0
  for name, base, per_task, per_load, is_spillover in
    string.gmatch(plan.rules, '([^,;]+),([^,]+),([^,]+),([^,]+),([^;]+)') do
    local facts, agents, in_flight, queue, wake, own_overflow, index = plan.next_pool()
    local pool = read_pool(facts, agents, in_flight, types, now, plan.silence_ms)
    any_alive = any_alive or (pool.live > 0 and not pool.maintenance)
    if is_spillover == '1' and pool.open > 0
      and redis.call('LLEN', queue) + redis.call('LLEN', own_overflow) > 0 then
      pool.open, pool.state = 0, 'own_work'
    end
    free = free + math.max(0, pool.open - pool.in_flight)
    pool.name, pool.base = name, tonumber(base)
    pool.own_facts = is_spillover ~= '1' and facts
    pool.per_task, pool.per_load = tonumber(per_task), tonumber(per_load)
    pool.in_flight_key, pool.queue, pool.wake, pool.index = in_flight, queue, wake, index
    pools[#pools + 1] = pool
  end

  if plan.is_pinned and pools[1] then
    overflow.queue, overflow.wake, overflow.index = pools[1].queue, pools[1].wake, pools[1].index
  end
  local waiting = plan.is_pinned and 0 or redis.call('LLEN', overflow.queue)

  -- Whether somebody starts a worker for a pool that has none: see size.lua.
  local function any_will_start()
    for _, pool in ipairs(pools) do
      local starts_until = pool.own_facts and redis.call('HGET', pool.own_facts, 'starts_until')
      if now < tonumber(starts_until or 0) then
        return true
      end
    end
  end

  local function counts()
    local found = {}
    for i, pool in ipairs(pools) do
      found[i] = packed_counts(pool)
    end
    return table.concat(found, ';')
  end

  local function best_with_room()
    local chosen, best, best_load = nil, nil, nil
    for _, pool in ipairs(pools) do
      if pool.live > 0 and pool.in_flight < pool.open then
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

  local function place_of()
    local best = free > waiting and best_with_room()
    if not best then
      waiting = waiting + 1
      return overflow
    end
    free = free - 1
    return best
  end

  -- Back-pressure

  local function full(name, found, max)
    return found >= max and string.format('%s|%d|%d', name, found, max)
  end

  local function tenant_is_full(tenant)
    local found = tonumber(redis.call('HGET', plan.waiting_counts, tenant) or 0)
    return full('tenant:' .. tenant, found, plan.max_of_tenant)
  end

  local function queue_is_full(place)
    return place == overflow and full('queue', redis.call('LLEN', overflow.queue), plan.max_in_queue)
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

  -- Money

  local windows = windows_of(now / 1000)

  local function choose_for(tenant)
    return choose(counters, {'all', 'tenant:' .. tenant, 'agent_type:' .. plan.agent_type},
      plan.limits, plan.choices, plan.nearly, windows, now)
  end

  -- Records

  local function write(record, once_key, id, message, tenant, keep, fingerprint, packed, state, ...)
    redis.call('HSET', record, 'state', state, 'history', begun(state, 'submit'), 'submitted', now,
      'loads', packed, 'tenant', tenant, 'plan', plan.text, 'message', message, ...)
    redis.call('ZADD', plan.task_index, now, id)
    count_waiting(plan.waiting_counts, tenant, 1)
    if keep ~= '0' then
      redis.call('SET', once_key, id .. ' ' .. fingerprint, 'EX', keep)
    end
  end

  -- The answer that the first submission of this task id got, or nil where there was none.
  local function first_answer(record)
    local state, routed, packed, refusal =
      unpack(redis.call('HMGET', record, 'state', 'routed', 'loads', 'parked_for'))
    if state == 'parked' then
      return {'parked', refusal or '', packed}
    elseif state == 'delayed' then
      return {'delayed', '', packed}
    end
    return state and {routed == '' and 'overflow' or 'pool', routed, packed}
  end

  local function time_of(not_before)
    local wait = string.match(not_before, '^%+(%d+)$')
    return wait and now + wait or tonumber(not_before) or 0
  end

  local function submit(record, once_key, id, message, tenant, keep, fingerprint, not_before)
    local first = first_answer(record) or keep ~= '0' and first_of(once_key, fingerprint)
    if first then
      return first
    end
    local packed, due = counts(), time_of(not_before)
    local busy = tenant_is_full(tenant)
    if due > now and busy then
      return {'busy', busy, packed}
    elseif due > now then
      write(record, once_key, id, message, tenant, keep, fingerprint, packed, 'delayed',
        'pool', '', 'routed', '', 'not_before', string.format('%.0f', due))
      redis.call('ZADD', plan.delayed, due, id)
      return {'delayed', '', packed}, {}
    end
    if not any_alive and not any_will_start() then
      -- Writes nothing. A server that takes no writes, so that no agent can beat, answers an error.
      redis.call('ZADD', plan.task_index, 'XX', 0, '')
      return {'no_agent', '', packed}
    end
    if busy then
      return {'busy', busy, packed}
    end
    local choice, refusal = choose_for(tenant)
    if not choice and (not plan.may_wait or refusal.wait_ms < 0) then
      return {'over', described(refusal), packed}
    elseif not choice then
      write(record, once_key, id, message, tenant, keep, fingerprint, packed, 'parked',
        'pool', '', 'routed', '', 'parked_for', described(refusal),
        'parked_until', may_fit_at(now, refusal.wait_ms))
      redis.call('ZADD', plan.on_hold, look_again_at(now, refusal.wait_ms), id)
      return {'parked', described(refusal), packed}, {}
    end
    local place = place_of()
    busy = queue_is_full(place)
    if busy then
      waiting = waiting - 1
      return {'busy', busy, packed}
    end
    reserve(counters, plan.reservations, id, {tenant, plan.agent_type, choice.model}, choice.asked)
    if place ~= overflow then
      redis.call('SADD', place.in_flight_key, id)
      place.in_flight = place.in_flight + 1
    end
    write(record, once_key, id, message, tenant, keep, fingerprint, packed, 'queued',
      'pool', place.name, 'routed', place.name, 'chosen', choice.model, 'because', choice.reason)
    redis.call('LPUSH', place.queue, message)
    index_last(place.index, id)
    if undo then
      undo.wakes[place.wake] = true
    elseif not place.woken then
      wake_worker(place.wake)
    end
    place.woken = true
    return {place == overflow and 'overflow' or 'pool', place.name, packed}, {place = place}
  end

  -- Remove all that was written for a task, except its usage counters.
  local function take_back(record, once_key, id, tenant, keep, place)
    redis.call('DEL', record)
    redis.call('ZREM', plan.task_index, id)
    redis.call('HDEL', plan.reservations, id)
    redis.call('ZREM', plan.on_hold, id)
    redis.call('ZREM', plan.delayed, id)
    count_waiting(plan.waiting_counts, tenant, -1)
    if keep ~= '0' then
      redis.call('DEL', once_key)
    end
    if place then
      redis.call('LPOP', place.queue)
      redis.call('ZREM', place.index, id)
    end
    if place and place ~= overflow then
      redis.call('SREM', place.in_flight_key, id)
    end
  end

  if plan.asking_tenant ~= '' then
    -- Where a task of this tenant would be placed. Writes nothing.
    local packed, choice, refusal = counts(), choose_for(plan.asking_tenant)
    if not any_alive and not any_will_start() then
      return {{'no_agent', '', packed}}
    end
    local busy = tenant_is_full(plan.asking_tenant)
    if busy then
      return {{'busy', busy, packed}}
    elseif not choice then
      local waits = plan.may_wait and refusal.wait_ms >= 0
      return {{waits and 'parked' or 'over', described(refusal), packed}}
    end
    local place = place_of()
    busy = queue_is_full(place)
    if busy then
      return {{'busy', busy, packed}}
    end
    local status = place == overflow and 'overflow' or 'pool'
    return {{status, place.name, packed, choice.model, choice.reason}}
  end
  local answers = {}
  for id, message, tenant, keep, fingerprint, not_before in plan.tasks do
    local record, once_key = plan.next_record()
    local answer, written = submit(record, once_key, id, message, tenant, keep, fingerprint,
      not_before)
    answers[#answers + 1] = answer
    if undo and written then
      undo[#undo + 1] = function()
        take_back(record, once_key, id, tenant, keep, written.place)
      end
    elseif undo and refused[answer[1]] then
      return answers, true
    end
  end
  return answers
end
