-- Give back what is held for tasks that hold no money any more: they have ended, wait outside of all
-- queues, or their record is gone.
--
-- KEYS  1 how far the reservations were looked through  2 money  3 reservations
--       then the record of each task
-- ARGV  1 how far they are looked through now  then the ids of the tasks
-- Returns the ids for which something was given back
--
-- Invariant: every step that ends or parks a task gives back in the same script. So this finds nothing
-- but what somebody has deleted or written by hand.

-- include book
-- include reservation

redis.call('SET', KEYS[1], ARGV[1])
local given, book = {}, nil
for i = 2, #ARGV do
  local state = redis.call('HGET', KEYS[i + 2], 'state')
  if state ~= 'queued' and state ~= 'running' and redis.call('HEXISTS', KEYS[3], ARGV[i]) == 1 then
    book = book or open_book(KEYS[2])
    release(book, KEYS[3], ARGV[i])
    given[#given + 1] = ARGV[i]
  end
end
if book then
  close_book(book)
end
return given
