-- List the processes that read secrets, and forget those that have been silent for long.
--
-- KEYS  1 processes
-- ARGV  1 ms after which a silent process is forgotten
-- Returns the time in ms, then each process and its report
--
-- Invariant: a process that reports is listed. One that was forgotten is listed again with its next
-- report.

local processes = unpack(KEYS)
local forget_ms = unpack(ARGV)

-- include time

local found, fields = {string.format('%.0f', now)}, redis.call('HGETALL', processes)
for place = 1, #fields, 2 do
  local process, report = fields[place], fields[place + 1]
  if now - tonumber(string.match(report, '^%d+')) > tonumber(forget_ms) then
    redis.call('HDEL', processes, process)
  else
    found[#found + 1] = process
    found[#found + 1] = report
  end
end
return found
