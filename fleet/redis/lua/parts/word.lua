-- The message of a task that has ended in no run goes to a worker, which finds that it has ended and
-- gives Celery the word (fleet/worker/late_results.py): results, chords and error callbacks would wait
-- for ever. Most messages ask for none of these, and stay away. It comes last in the queue and stands in
-- no line: it is not missed where it is lost. Needs wake.

local function asks_for_word(message)
  local read, found = pcall(cjson.decode, message)
  local headers = read and type(found) == 'table' and found.headers
  if type(headers) ~= 'table' then
    return false
  end
  local body = type(found.body) == 'string' and found.body or ''
  return headers.ignore_result ~= true or not string.find(body, '"errbacks": null', 1, true)
end

local function send_word(message, queue, wake)
  if not message or not asks_for_word(message) then
    return
  end
  redis.call('LPUSH', queue, message)
  wake_worker(wake)
end
