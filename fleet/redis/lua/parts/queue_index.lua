-- A queue's index: the ids of the tasks in the queue, in the queue's order, see missing.lua. The score
-- of the last one is the time in us, and one more for each that came before it in the same script. The
-- score of one that is put in front, to be taken next, is the negative of that. A message that is in
-- a queue twice stands in the index once, where it is taken first. Needs time.

local next_score = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function index_last(queue_index, id)
  redis.call('ZADD', queue_index, 'NX', next_score, id)
  next_score = next_score + 1
end

local function index_first(queue_index, id)
  redis.call('ZADD', queue_index, -next_score, id)
  next_score = next_score + 1
end
