-- Free the slots of a pool that are held by tasks which are not in it any more, and find those whose
-- message its workers have lost.
--
-- KEYS  1 the pool's in_flight  2 line of its queue  then the lines of the other queues, then the
--       messages that each pool's workers hold, then the record of each task that holds a slot
-- ARGV  1 pool  2 how many other queues there are  3 how many pools  then the ids of the tasks
-- Returns {ids whose slot was freed, ids whose message was lost}
--
-- Invariant: a slot is held while its task is queued, or runs, in this pool. A task without a
-- record was fetched and takes its slot again when it is claimed, or has expired. A queued task that
-- holds a slot, and is in no line, was fetched: a worker holds its message, or it is nowhere. Then
-- it gets a number in the line of this pool's queue, where missing.lua misses it.

-- include time
-- include line

local others, pools = tonumber(ARGV[2]), tonumber(ARGV[3])
local first_hash = 2 + others
local first_record = first_hash + pools
local held
local function is_held(id)
  if not held then
    held = {}
    for i = 1, pools do
      for _, message in ipairs(redis.call('HVALS', KEYS[first_hash + i])) do
        held[#held + 1] = message
      end
    end
  end
  for _, message in ipairs(held) do
    if string.find(message, id, 1, true) then
      return true
    end
  end
  return false
end

local function in_another_line(id)
  for i = 3, first_hash do
    if redis.call('ZSCORE', KEYS[i], id) then
      return true
    end
  end
  return false
end

local freed, lost = {}, {}
for i = 4, #ARGV do
  local id = ARGV[i]
  local found = redis.call('HMGET', KEYS[first_record + i - 3], 'state', 'pool')
  local queued = found[1] == 'queued' and (found[2] == '' or found[2] == ARGV[1])
  local here = queued or (found[1] == 'running' and found[2] == ARGV[1])
  if queued and not redis.call('ZSCORE', KEYS[2], id) then
    if in_another_line(id) then
      here = false
    elseif not is_held(id) then
      stand_first(KEYS[2], id)
      lost[#lost + 1] = id
    end
  end
  if not here then
    redis.call('SREM', KEYS[1], id)
    freed[#freed + 1] = id
  end
end
return {freed, lost}
