-- Free the slots of a pool that are held by tasks which are not in it any more, and find those whose
-- message its workers have lost.
--
-- KEYS  1 the pool's in_flight  2 index of its queue  then the indexes of the other queues, then the
--       messages that each pool's workers hold, then the record of each task that holds a slot
-- ARGV  1 pool  2 number of other queues  3 number of pools  then the ids of the tasks
-- Returns {ids whose slot was freed, ids whose message was lost}
--
-- Invariant: a slot is held while its task is queued, or runs, in this pool. A task without a
-- record was fetched and takes its slot again when it is claimed, or has expired. A queued task that
-- holds a slot, and is in no index, was fetched: a worker holds its message, or the message is lost.
-- A lost one gets a score in the index of this pool's queue, where missing.lua finds it.

-- include groups

local in_flight, queue_index = unpack(KEYS, 1, 2)
local pool, index_count, pool_count = unpack(ARGV, 1, 3)
local other_indexes = {unpack(KEYS, 3, 2 + index_count)}
local held_by_pools = {unpack(KEYS, 3 + index_count, 2 + index_count + pool_count)}
local next_record = groups(KEYS, 3 + index_count + pool_count, 1)
local ids = groups(ARGV, 4, 1)

-- include time
-- include queue_index

local messages
local function is_held(id)
  if not messages then
    messages = {}
    for _, held in ipairs(held_by_pools) do
      for _, message in ipairs(redis.call('HVALS', held)) do
        messages[#messages + 1] = message
      end
    end
  end
  for _, message in ipairs(messages) do
    if string.find(message, id, 1, true) then
      return true
    end
  end
  return false
end

local function in_another_index(id)
  for _, index in ipairs(other_indexes) do
    if redis.call('ZSCORE', index, id) then
      return true
    end
  end
  return false
end

local freed, lost = {}, {}
for id in ids do
  local state, task_pool = unpack(redis.call('HMGET', next_record(), 'state', 'pool'))
  local queued = state == 'queued' and (task_pool == '' or task_pool == pool)
  local here = queued or (state == 'running' and task_pool == pool)
  if queued and not redis.call('ZSCORE', queue_index, id) then
    if in_another_index(id) then
      here = false
    elseif not is_held(id) then
      index_first(queue_index, id)
      lost[#lost + 1] = id
    end
  end
  if not here then
    redis.call('SREM', in_flight, id)
    freed[#freed + 1] = id
  end
end
return {freed, lost}
