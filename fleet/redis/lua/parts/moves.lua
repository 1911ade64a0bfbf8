-- Moves of a task from one state to another, as fleet/tasks/rules.py has them. Each leaves a line
-- in its record, field `history`: ms, state, attempt, by whom, why. The first one and the newest are
-- kept. How many of a tenant's tasks wait, queued, delayed or parked, is counted with them. Needs time.

local history_kept = 20
local waits = {queued = 1, delayed = 1, parked = 1}

local function line(state, attempt, by, why)
  return string.format('%.0f %s %d %s %s', now, state, attempt,
    string.gsub(by == '' and '-' or by, '%s', '_'), (string.gsub(why, '%s+', ' ')))
end

-- The first line of a record.
local function begun(state, by)
  return line(state, 0, by, '')
end

local function count_waiting(waiting, tenant, by)
  if by ~= 0 and redis.call('HINCRBY', waiting, tenant, by) <= 0 then
    redis.call('HDEL', waiting, tenant)
  end
end

-- Move a task, and write what else there is to be written.
local function move(record, waiting, from, to, by, why, ...)
  local known = redis.call('HMGET', record, 'history', 'attempts', 'tenant')
  local lines = {}
  for each in string.gmatch(known[1] or '', '[^\n]+') do
    lines[#lines + 1] = each
  end
  if #lines == history_kept then
    table.remove(lines, 2)
  end
  lines[#lines + 1] = line(to, tonumber(known[2] or 0), by, why)
  redis.call('HSET', record, 'state', to, 'history', table.concat(lines, '\n'), ...)
  count_waiting(waiting, known[3] or '', (waits[to] or 0) - (waits[from] or 0))
end
