-- Add the sums of a batch of the ledger's entries to the roll-ups, and move the cursor past the batch.
--
-- KEYS  1 cursor  2 index of the roll-ups  3... roll-ups, hashes of an hour or a day each
-- ARGV  1 id before the batch, '0-0' at first  2 id of its last entry
--       3... for each sum: which of the roll-ups, from 1; field; eleven numbers with commas between
-- Returns 1, also where this batch was added before; 0 where the cursor is at another id
--
-- Invariant: the roll-ups of hours, and those of days, have the sum of all entries up to the cursor.

-- include groups

local cursor, rollup_index = unpack(KEYS, 1, 2)
local rollups = {unpack(KEYS, 3)}
local before_batch, last = unpack(ARGV, 1, 2)
local new_sums = groups(ARGV, 3, 3)

local cursor_now = redis.call('GET', cursor) or '0-0'
if cursor_now == last then
  return 1
end
if cursor_now ~= before_batch then
  return 0
end
for number, field, packed in new_sums do
  local rollup = rollups[tonumber(number)]
  local sums = {}
  for amount in string.gmatch(packed, '-?%d+') do
    sums[#sums + 1] = amount
  end
  local before = redis.call('HGET', rollup, field)
  if before then
    local n = 0
    for amount in string.gmatch(before, '-?%d+') do
      n = n + 1
      sums[n] = string.format('%.0f', amount + (sums[n] or 0))
    end
  end
  redis.call('HSET', rollup, field, table.concat(sums, ','))
end
for _, rollup in ipairs(rollups) do
  redis.call('SADD', rollup_index, rollup)
end
redis.call('SET', cursor, last)
return 1
