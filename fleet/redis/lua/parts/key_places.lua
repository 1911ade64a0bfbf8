-- The calls in flight with a provider's key: how many its provider allows, and what the key spends.
-- The rules are those of fleet/models/rules/concurrency.py, which says why.
--   facts  day        the UTC day that `spent` is of
--          spent      nano-dollars of that day
--          held       nano-dollars that the calls in flight bind
--          n|MODEL    calls in flight
--          pace|MODEL limit,cut_ms,answers,mean_ms,total,answered_ms,pause_ms,asked_ms,next_ms
--   calls  MODEL, NANO-DOLLARS and TASK CALL, with line breaks between, by the end of the place
--   queue  TASK CALL, by when it came
-- A place ends by itself when its worker is lost, and then what it binds counts as spent. So does a
-- waiting call: it asks again within the time that it waits. Needs time and windows.

local least_limit, max_limit, decrease, large_decrease = 0.1, 10000, 0.95, 0.85
local calls_per_refusal, times_the_pause, full, memory, credit_calls = 100, 20, 0.8, 0.02, 2
local least_pause_ms, max_pause_ms, silent_rounds = 200, 5000, 4
local least_wait_ms, max_wait_ms, max_queued_ms = 5, 2000, 20000
local kept_ms = 7 * 86400000

local pace_fields =
  {'limit', 'cut', 'answers', 'mean', 'total', 'answered', 'pause', 'asked', 'next'}

local function pace_of(facts, model)
  local packed, pace, n = redis.call('HGET', facts, 'pace|' .. model), {}, 0
  for number in string.gmatch(packed or '', '[^,]+') do
    n = n + 1
    pace[pace_fields[n]] = tonumber(number)
  end
  for i = n + 1, #pace_fields do
    pace[pace_fields[i]] = 0
  end
  if not packed then
    pace.limit = max_limit
  end
  return pace
end

local function keep_pace(facts, model, pace)
  local packed = {}
  for i, field in ipairs(pace_fields) do
    packed[i] = string.format('%.6f', pace[field])
  end
  redis.call('HSET', facts, 'pace|' .. model, table.concat(packed, ','))
end

local function places_of(pace, most)
  local learned = math.ceil(pace.limit)
  return most == '' and learned or math.min(learned, tonumber(most))
end

local function round_of(pace)
  return math.max(least_pause_ms, pace.mean)
end

local function distance_of(pace)
  return pace.cut > 0 and pace.mean / pace.limit or 0
end

-- The amounts of the key in this UTC day.
local function spend_of(facts, day)
  local kept_day, spent, held = unpack(redis.call('HMGET', facts, 'day', 'spent', 'held'))
  return {spent = kept_day == day and tonumber(spent) or 0, held = tonumber(held or 0)}
end

local function spend(facts, day, nanodollars)
  local spent = spend_of(facts, day).spent + nanodollars
  redis.call('HSET', facts, 'day', day, 'spent', string.format('%.0f', spent))
end

local function place_of(model, nanodollars, call)
  return model .. '\n' .. nanodollars .. '\n' .. call
end

-- Free a place. Returns when the call began, nil where it has no place.
local function free_place(facts, calls, place, place_ms)
  local ends = redis.call('ZSCORE', calls, place)
  if not ends then
    return nil
  end
  local model, nanodollars = string.match(place, '^(.*)\n(%d+)\n')
  redis.call('ZREM', calls, place)
  redis.call('HINCRBY', facts, 'n|' .. model, -1)
  redis.call('HINCRBY', facts, 'held', -nanodollars)
  return ends - place_ms
end

-- Free the places of lost calls. What they bound may have been spent.
local function free_lost_places(facts, calls, day)
  for _, place in ipairs(redis.call('ZRANGEBYSCORE', calls, '-inf', now)) do
    free_place(facts, calls, place, 0)
    spend(facts, day, tonumber(string.match(place, '\n(%d+)\n')))
  end
end

-- Ms after which a call may ask again for a place, 0 where it may begin. A call that waits keeps its
-- turn among the others where it may queue.
local function wait_for_place(facts, queue, model, call, most, may_queue)
  local pace = pace_of(facts, model)
  redis.call('ZREMRANGEBYSCORE', queue, '-inf', now - max_queued_ms)
  local ahead = redis.call('ZRANK', queue, call) or redis.call('ZCARD', queue)
  local in_flight = tonumber(redis.call('HGET', facts, 'n|' .. model) or 0)
  local allowed, wait = places_of(pace, most), 0
  if now < pace.pause then
    wait = pace.pause - now
  else
    if in_flight + ahead >= allowed then
      wait = math.max(least_wait_ms, pace.mean * (in_flight + ahead + 1 - allowed) / allowed)
    end
    wait = math.min(max_wait_ms, math.max(wait, pace.next + ahead * distance_of(pace) - now))
  end
  if wait <= 0 then
    return 0
  end
  if may_queue == '1' then
    redis.call('ZADD', queue, 'NX', now, call)
    redis.call('PEXPIRE', queue, max_queued_ms)
  end
  return math.max(least_wait_ms, wait)
end

-- Take a place until it is freed, or its time is over.
local function take_place(facts, calls, queue, model, call, place, place_ms)
  local pace = pace_of(facts, model)
  if pace.cut > 0 then
    local distance = distance_of(pace)
    pace.next = math.max(pace.next, now - credit_calls * distance) + distance
    keep_pace(facts, model, pace)
  end
  redis.call('ZREM', queue, call)
  redis.call('ZADD', calls, now + place_ms, place)
  redis.call('HINCRBY', facts, 'n|' .. model, 1)
  redis.call('HINCRBY', facts, 'held', string.match(place, '\n(%d+)\n'))
  redis.call('PEXPIRE', facts, kept_ms)
  redis.call('PEXPIRE', calls, kept_ms)
end

local function growth_of(pace)
  local pause_calls = times_the_pause * pace.asked * pace.limit / math.max(1, pace.mean)
  local cycle = math.max(calls_per_refusal, pause_calls)
  local step = (1 - decrease) * pace.limit / cycle * math.max(1, pace.answers / cycle)
  return math.min(1 / pace.limit, step)
end

-- Learn from an answer, before its place is freed.
local function note_answer(facts, model, began, most)
  local pace = pace_of(facts, model)
  pace.mean = pace.mean + math.max(memory, 1 / (pace.total + 1)) * (now - began - pace.mean)
  if began >= pace.cut then
    pace.answers = pace.answers + 1
  end
  local in_flight = tonumber(redis.call('HGET', facts, 'n|' .. model) or 0)
  if pace.cut > 0 and in_flight >= full * places_of(pace, most) then
    pace.limit = math.min(max_limit, pace.limit + growth_of(pace))
  end
  pace.total, pace.answered = pace.total + 1, now
  keep_pace(facts, model, pace)
end

-- Learn from a refusal. Returns whether the provider serves no calls for now.
local function note_key_refusal(facts, model, began, retry_ms)
  local pace = pace_of(facts, model)
  local is_closed = pace.total == 0 or retry_ms > max_pause_ms
    or now - pace.answered > silent_rounds * round_of(pace) + pace.asked
  local asked = math.min(math.max(retry_ms, least_pause_ms), max_pause_ms)
  pace.pause = math.max(pace.pause, now + asked)
  if pace.cut == 0 or began >= pace.cut and now - pace.cut >= round_of(pace) then
    local is_repeated = pace.cut == 0 or pace.answers < pace.limit + 4
    local in_flight = tonumber(redis.call('HGET', facts, 'n|' .. model) or 0)
    local known = pace.cut > 0 and pace.limit or math.min(pace.limit, in_flight)
    pace.limit = math.max(least_limit, known * (is_repeated and large_decrease or decrease))
    pace.cut, pace.answers, pace.asked = now, 0, asked
  end
  keep_pace(facts, model, pace)
  return is_closed
end
