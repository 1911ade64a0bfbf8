-- Moves of a task from one state to another, as fleet/tasks/rules.py has them. Each leaves an
-- entry in the task's record, field `history`: ms, state, attempt, actor, reason. The first entry and
-- the newest ones are kept. The count of a tenant's waiting tasks (queued, delayed or parked) moves
-- with them. Needs time.

local history_kept = 20
local waits = {queued = 1, delayed = 1, parked = 1}

local function history_entry(state, attempt, actor, reason)
  return string.format('%.0f %s %d %s %s', now, state, attempt,
    string.gsub(actor == '' and '-' or actor, '%s', '_'), (string.gsub(reason, '%s+', ' ')))
end

-- The first entry of a record.
local function begun(state, actor)
  return history_entry(state, 0, actor, '')
end

local function count_waiting(waiting, tenant, change)
  if change ~= 0 and redis.call('HINCRBY', waiting, tenant, change) <= 0 then
    redis.call('HDEL', waiting, tenant)
  end
end

-- Move a task, and write further fields and values of its record.
local function move(record, waiting, from, to, actor, reason, ...)
  local history, attempts, tenant =
    unpack(redis.call('HMGET', record, 'history', 'attempts', 'tenant'))
  local entries = {}
  for each in string.gmatch(history or '', '[^\n]+') do
    entries[#entries + 1] = each
  end
  if #entries == history_kept then
    table.remove(entries, 2)
  end
  entries[#entries + 1] = history_entry(to, tonumber(attempts or 0), actor, reason)
  redis.call('HSET', record, 'state', to, 'history', table.concat(entries, '\n'), ...)
  count_waiting(waiting, tenant or '', (waits[to] or 0) - (waits[from] or 0))
end
