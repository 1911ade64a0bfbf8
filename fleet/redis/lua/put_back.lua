-- Note that a message which a worker held is in its queue again.
--
-- KEYS  1 line of the queue
-- ARGV  1 task id  2 1 where it was put in front, to be taken next, 0 where it was put behind all
-- Returns 1
--
-- Invariant: a line is in the order of its queue, see parts/line.lua.

-- include time
-- include line

if ARGV[2] == '1' then
  stand_first(KEYS[1], ARGV[1])
else
  stand_last(KEYS[1], ARGV[1])
end
return 1
