-- Notify the result backend of a task that ended in no run. The task's message goes to a worker,
-- which finds that the task has ended and stores the result in Celery's result backend
-- (fleet/worker/late_results.py). Otherwise results, chords and error callbacks would wait for ever.
-- Most messages ask for none of these and are not sent. The message comes last in the queue and is not
-- in the queue's index: nobody misses it where it is lost. Needs wake.

local function wants_result(message)
  local read, found = pcall(cjson.decode, message)
  local headers = read and type(found) == 'table' and found.headers
  if type(headers) ~= 'table' then
    return false
  end
  local body = type(found.body) == 'string' and found.body or ''
  return headers.ignore_result ~= true or not string.find(body, '"errbacks": null', 1, true)
end

local function notify_result_backend(message, queue, wake)
  if not message or not wants_result(message) then
    return
  end
  redis.call('LPUSH', queue, message)
  wake_worker(wake)
end
