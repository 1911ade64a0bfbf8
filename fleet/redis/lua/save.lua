-- Checkpoint a result of a running task: the task's next run resumes there.
--
-- KEYS  1 task record  2 checkpoints
-- ARGV  1 fence  2 name  3 value, as JSON  4 max bytes that a task may save
-- Returns 'saved'; 'lost' where the lease has passed to another run, 'full' where it is too much:
--       nothing was written then
--
-- Invariant: as for every write of a run, only the newest fence may write. The newest value of a name
-- counts. Sending the same value again changes nothing but its time.

local record, checkpoints = unpack(KEYS)
local fence, name, value, max_bytes = unpack(ARGV)

-- include time
-- include checkpoints

return save(record, checkpoints, fence, name, value, max_bytes)
