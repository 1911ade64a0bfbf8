-- Append an entry to the audit.
--
-- KEYS  1 audit  2 its head  3 the answer to this very entry
-- ARGV  1 digest of the fields, see parts/chain.lua  2 seconds to keep the answer
--       then for each field: name, value
-- Returns the entry's number
--
-- Invariant: entries are numbered without a gap, in the order of the stream, and each has the hash that
-- chains it to the one before. An entry that is sent again is not written again.

local audit, head, answer = unpack(KEYS)
local digest, seconds = unpack(ARGV, 1, 2)
local fields = {unpack(ARGV, 3)}

-- include time
-- include sha256
-- include chain

local seq = tonumber(redis.call('GET', answer))
if not seq then
  seq = chained(audit, head, now, digest, fields)
  redis.call('SET', answer, seq, 'EX', seconds)
end
return seq
