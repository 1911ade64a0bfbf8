-- Place tasks that share a plan, each of them wholly or not at all: what submit.lua does, with its
-- keys and arguments, for one plan or, by submit_whole.lua, for several. Needs time, line, moves,
-- health, row, windows, book, limits, reservation, choice, parked and wake.

local fixed, per_pool, per_task_args = 11, 7, 6
local first_choice = 14
local refused = {over = true, busy = true, no_agent = true, conflict = true}

-- The answers, see submit.lua. With `undo` it ends at the first task that is refused, and says so;
-- what has to be called then, from its end to its beginning, is added to `undo`, and to `undo.wakes`
-- the wake lists of what is placed, else.
local function place_tasks(KEYS, ARGV, book, undo)
  local first_task = first_choice + choice_args + 2
  local most_in_queue, most_of_tenant = tonumber(ARGV[first_task - 1]), tonumber(ARGV[first_task])
  local plan, pool_count, pinned = ARGV[2], tonumber(ARGV[3]), ARGV[8] == '1'

  local pools, types = {}, {'stat:' .. ARGV[5]}
  local any_alive, free = false, 0
  for name, base, per_task, per_load, helps in
    string.gmatch(ARGV[4], '([^,;]+),([^,]+),([^,]+),([^,]+),([^;]+)') do
    local k = fixed + #pools * per_pool
    local pool = read_pool(KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], types, now, tonumber(ARGV[1]))
    any_alive = any_alive or (pool.live > 0 and not pool.maintenance)
    if helps == '1' and pool.open > 0
      and redis.call('LLEN', KEYS[k + 4]) + redis.call('LLEN', KEYS[k + 6]) > 0 then
      pool.open, pool.standing = 0, 'own_work'
    end
    free = free + math.max(0, pool.open - pool.in_flight)
    pool.name, pool.base = name, tonumber(base)
    pool.per_task, pool.per_load = tonumber(per_task), tonumber(per_load)
    pool.in_flight_key, pool.queue, pool.wake = KEYS[k + 3], KEYS[k + 4], KEYS[k + 5]
    pool.line = KEYS[k + 7]
    pools[#pools + 1] = pool
  end

  local overflow = {name = '', queue = KEYS[2], wake = KEYS[3], line = KEYS[10]}
  if pinned and pools[1] then
    overflow.queue, overflow.wake, overflow.line = pools[1].queue, pools[1].wake, pools[1].line
  end
  local waiting = pinned and 0 or redis.call('LLEN', overflow.queue)

  local function loads()
    local rows = {}
    for i, pool in ipairs(pools) do
      rows[i] = row(pool)
    end
    return table.concat(rows, ';')
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

  local function full(of, found, most)
    return found >= most and string.format('%s|%d|%d', of, found, most)
  end

  local function tenant_is_full(tenant)
    local found = tonumber(redis.call('HGET', KEYS[11], tenant) or 0)
    return full('tenant:' .. tenant, found, most_of_tenant)
  end

  local function queue_is_full(place)
    return place == overflow and full('queue', redis.call('LLEN', overflow.queue), most_in_queue)
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
  local choices = read_choices(first_choice, ARGV)
  local limits, nearly = {ARGV[10], ARGV[11], ARGV[12]}, tonumber(ARGV[14])

  local function choose_for(tenant)
    return choose(book, {'all', 'tenant:' .. tenant, 'agent_type:' .. ARGV[9]}, limits, choices,
      nearly, windows, now)
  end

  -- What every task's record begins with.
  local function write(record, once_key, id, message, tenant, keep, fingerprint, packed, state, ...)
    redis.call('HSET', record, 'state', state, 'history', begun(state, 'submit'), 'submitted', now,
      'loads', packed, 'tenant', tenant, 'plan', plan, 'message', message, ...)
    redis.call('ZADD', KEYS[1], now, id)
    count_waiting(KEYS[11], tenant, 1)
    if keep ~= '0' then
      redis.call('SET', once_key, id .. ' ' .. fingerprint, 'EX', keep)
    end
  end

  local function first_answer(known)
    if known[1] == 'parked' then
      return {'parked', known[4] or '', known[3]}
    elseif known[1] == 'delayed' then
      return {'delayed', '', known[3]}
    end
    return {known[2] == '' and 'overflow' or 'pool', known[2], known[3]}
  end

  local function time_of(said)
    local wait = string.match(said, '^%+(%d+)$')
    return wait and now + wait or tonumber(said) or 0
  end

  local function submit(record, once_key, id, message, tenant, keep, fingerprint, not_before)
    local known = redis.call('HMGET', record, 'state', 'routed', 'loads', 'parked_for')
    if known[1] then
      return first_answer(known)
    end
    local first = keep ~= '0' and first_of(once_key, fingerprint)
    if first then
      return first
    end
    local packed, due = loads(), time_of(not_before)
    local busy = tenant_is_full(tenant)
    if due > now and busy then
      return {'busy', busy, packed}
    elseif due > now then
      write(record, once_key, id, message, tenant, keep, fingerprint, packed, 'delayed',
        'pool', '', 'routed', '', 'not_before', string.format('%.0f', due))
      redis.call('ZADD', KEYS[9], due, id)
      return {'delayed', '', packed}, {}
    end
    if not any_alive then
      -- Writes nothing. A server that takes no writes, so that no agent can beat, says so here.
      redis.call('ZADD', KEYS[1], 'XX', 0, '')
      return {'no_agent', '', packed}
    end
    if busy then
      return {'busy', busy, packed}
    end
    local choice, refusal = choose_for(tenant)
    if not choice and (ARGV[13] ~= 'wait' or refusal[8] < 0) then
      return {'over', told(refusal), packed}
    elseif not choice then
      write(record, once_key, id, message, tenant, keep, fingerprint, packed, 'parked',
        'pool', '', 'routed', '', 'parked_for', told(refusal),
        'parked_until', may_fit_at(now, refusal[8]))
      redis.call('ZADD', KEYS[8], look_again_at(now, refusal[8]), id)
      return {'parked', told(refusal), packed}, {}
    end
    local place = place_of()
    busy = queue_is_full(place)
    if busy then
      waiting = waiting - 1
      return {'busy', busy, packed}
    end
    reserve(book, KEYS[7], id, {tenant, ARGV[9], choice.model}, choice.asked)
    if place ~= overflow then
      redis.call('SADD', place.in_flight_key, id)
      place.in_flight = place.in_flight + 1
    end
    write(record, once_key, id, message, tenant, keep, fingerprint, packed, 'queued',
      'pool', place.name, 'routed', place.name, 'chosen', choice.model, 'because', choice.because)
    redis.call('LPUSH', place.queue, message)
    stand_last(place.line, id)
    if undo then
      undo.wakes[place.wake] = true
    elseif not place.woken then
      wake_worker(place.wake)
    end
    place.woken = true
    return {place == overflow and 'overflow' or 'pool', place.name, packed}, {place = place}
  end

  -- What a task that was written here has left, but for the book.
  local function take_back(record, once_key, id, tenant, keep, place)
    redis.call('DEL', record)
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[7], id)
    redis.call('ZREM', KEYS[8], id)
    redis.call('ZREM', KEYS[9], id)
    count_waiting(KEYS[11], tenant, -1)
    if keep ~= '0' then
      redis.call('DEL', once_key)
    end
    if place then
      redis.call('LPOP', place.queue)
      redis.call('ZREM', place.line, id)
    end
    if place and place ~= overflow then
      redis.call('SREM', place.in_flight_key, id)
    end
  end

  if #ARGV == first_task + 1 then
    local packed, choice, refusal = loads(), choose_for(ARGV[first_task + 1])
    if not any_alive then
      return {{'no_agent', '', packed}}
    end
    local busy = tenant_is_full(ARGV[first_task + 1])
    if busy then
      return {{'busy', busy, packed}}
    elseif not choice then
      local parks = ARGV[13] == 'wait' and refusal[8] >= 0
      return {{parks and 'parked' or 'over', told(refusal), packed}}
    end
    local place = place_of()
    local status = place == overflow and 'overflow' or 'pool'
    busy = queue_is_full(place)
    if busy then
      return {{'busy', busy, packed}}
    end
    return {{status, place.name, packed, choice.model, choice.because}}
  end
  local answers, k = {}, fixed + pool_count * per_pool
  for a = first_task + 1, #ARGV, per_task_args do
    local answer, written = submit(KEYS[k + 1], KEYS[k + 2], unpack(ARGV, a, a + per_task_args - 1))
    answers[#answers + 1] = answer
    if undo and written then
      undo[#undo + 1] = {take_back, KEYS[k + 1], KEYS[k + 2], ARGV[a], ARGV[a + 2], ARGV[a + 3],
        written.place}
    elseif undo and refused[answer[1]] then
      return answers, true
    end
    k = k + 2
  end
  return answers
end
