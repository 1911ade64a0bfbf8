-- A queue's line: the ids of the tasks in it, in its order, see missing.lua. Who comes last has the
-- time in us as number, and one more for each that came before it in the same script; who is put in
-- front, to be taken next, the negative of that. A message that is in a queue twice stands in
-- its line once, where it is taken first. Needs time.

local came = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function stand_last(line, id)
  redis.call('ZADD', line, 'NX', came, id)
  came = came + 1
end

local function stand_first(line, id)
  redis.call('ZADD', line, -came, id)
  came = came + 1
end
