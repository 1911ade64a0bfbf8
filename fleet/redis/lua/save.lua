-- Save what a step of a running task came to, for the task's next run to go on from.
--
-- KEYS  1 task record  2 what is saved
-- ARGV  1 fence  2 name  3 value, as JSON  4 most bytes that a task may save
-- Returns 'saved'; 'lost' where the lease has passed to another run, 'full' where it is too much:
--       nothing was written then
--
-- Invariant: as for every write of a run, only the newest fence may. The newest value of a name
-- counts; sent again it is the same.

-- include time
-- include saved

return save(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
