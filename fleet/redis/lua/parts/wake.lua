-- Have a worker woken that sleeps beside a queue: its wake list holds a token, and no more than one.

local function wake_worker(wake)
  if redis.call('LLEN', wake) == 0 then
    redis.call('LPUSH', wake, '1')
  end
end
