-- Add the sums of a batch of the ledger's entries to the roll-ups, and move the cursor past it.
--
-- KEYS  1 cursor  2 index of the roll-ups  3... roll-ups, hashes of an hour or a day each
-- ARGV  1 id before the batch, '0-0' at first  2 id of its last entry
--       3... for each sum: which of the roll-ups, from 1; field; eleven numbers with commas between
-- Returns 1, also where this batch was added before; 0 where the cursor stands elsewhere
--
-- Invariant: what stands in the roll-ups of hours, and in those of days, is the sum of all entries
-- up to the cursor.

local cursor = redis.call('GET', KEYS[1]) or '0-0'
if cursor == ARGV[2] then
  return 1
end
if cursor ~= ARGV[1] then
  return 0
end
for i = 3, #ARGV, 3 do
  local hash = KEYS[2 + ARGV[i]]
  local sums = {}
  for number in string.gmatch(ARGV[i + 2], '-?%d+') do
    sums[#sums + 1] = number
  end
  local before = redis.call('HGET', hash, ARGV[i + 1])
  if before then
    local n = 0
    for number in string.gmatch(before, '-?%d+') do
      n = n + 1
      sums[n] = string.format('%.0f', number + (sums[n] or 0))
    end
  end
  redis.call('HSET', hash, ARGV[i + 1], table.concat(sums, ','))
end
for i = 3, #KEYS do
  redis.call('SADD', KEYS[2], KEYS[i])
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
