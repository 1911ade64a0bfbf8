-- Checkpoints: what the runs of a task have saved, for its next run to go on from. One hash beside the
-- record, by name: ms, fence of the run that saved it, JSON. It goes where the task ends for good, and
-- stays as long as the record where it is a dead letter. Needs time.

local most_saved = 100

-- How many bytes are saved under other names, and under how many.
local function saved_beside(saved, name)
  local bytes, count = 0, 0
  for _, each in ipairs(redis.call('HKEYS', saved)) do
    if each ~= name then
      bytes = bytes + #each + redis.call('HSTRLEN', saved, each)
      count = count + 1
    end
  end
  return bytes, count
end

-- 'saved'; 'lost' where another run has the task now, or it has ended; 'full' where the task may
-- not save so much. The same again is the same.
local function save(record, saved, fence, name, value, most_bytes)
  local task = redis.call('HMGET', record, 'fence', 'state')
  if task[1] ~= fence or task[2] ~= 'running' then
    return 'lost'
  end
  local packed = string.format('%.0f %s ', now, fence) .. value
  local bytes, count = saved_beside(saved, name)
  if bytes + #name + #packed > tonumber(most_bytes) or count >= most_saved then
    return 'full'
  end
  redis.call('HSET', saved, name, packed)
  return 'saved'
end
