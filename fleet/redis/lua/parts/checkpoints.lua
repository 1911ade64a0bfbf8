-- Checkpoints: values that the runs of a task save, so that the next run resumes there. They are one
-- hash beside the record: name -> ms, fence of the run that saved the value, JSON. The hash goes when
-- the task ends for good, and stays as long as the record of a dead letter. Needs time.

local max_names = 100

-- How many bytes are saved under other names, and the number of these names.
local function saved_beside(checkpoints, name)
  local bytes, count = 0, 0
  for _, each in ipairs(redis.call('HKEYS', checkpoints)) do
    if each ~= name then
      bytes = bytes + #each + redis.call('HSTRLEN', checkpoints, each)
      count = count + 1
    end
  end
  return bytes, count
end

-- 'saved'; 'lost' where another run has the task now or the task has ended; 'full' where the task
-- would save more than it may. Saving the same value again changes nothing but its time.
local function save(record, checkpoints, fence, name, value, max_bytes)
  local newest_fence, state = unpack(redis.call('HMGET', record, 'fence', 'state'))
  if newest_fence ~= fence or state ~= 'running' then
    return 'lost'
  end
  local packed = string.format('%.0f %s ', now, fence) .. value
  local bytes, count = saved_beside(checkpoints, name)
  if bytes + #name + #packed > tonumber(max_bytes) or count >= max_names then
    return 'full'
  end
  redis.call('HSET', checkpoints, name, packed)
  return 'saved'
end
