-- Note that a message which a worker held is in its queue again.
--
-- KEYS  1 index of the queue
-- ARGV  1 task id  2 1 where it was put in front, to be taken next, 0 where it was put behind all
-- Returns 1
--
-- Invariant: an index is in the order of its queue, see parts/queue_index.lua.

local queue_index = unpack(KEYS)
local id, is_first = unpack(ARGV)

-- include time
-- include queue_index

if is_first == '1' then
  index_first(queue_index, id)
else
  index_last(queue_index, id)
end
return 1
