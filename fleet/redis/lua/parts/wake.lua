-- Wake a worker that sleeps beside a queue: the queue's wake list gets a token, and has at most one.

local function wake_worker(wake)
  if redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, '1')
  end
end
