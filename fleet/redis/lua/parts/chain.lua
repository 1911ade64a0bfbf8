-- Append an entry to the audit, chained to the entry before it by its hash.
--
--   chained(audit, head, now, digest, fields)
--
-- `fields` are names and values, `digest` is `facts_digest(fields)`. The hash of an entry is
-- SHA-256('PREVIOUS SEQ AT DIGEST'), where PREVIOUS is the hash of the entry before it, or 64 zeros.
-- `fleet/audit/rules.py` computes the same. Returns the entry's number. Include `sha256` before.

local function facts_digest(fields)
  local parts = {}
  for _, text in ipairs(fields) do
    parts[#parts + 1] = #text .. ':' .. text
  end
  return sha256(table.concat(parts))
end

local function chained(audit, head, now, digest, fields)
  local previous = redis.call('HGET', head, 'hash') or string.rep('0', 64)
  local seq = redis.call('HINCRBY', head, 'seq', 1)
  local at = string.format('%.0f', now)
  local hash = sha256(previous .. ' ' .. seq .. ' ' .. at .. ' ' .. digest)
  local entry = {'seq', seq, 'at', at}
  for _, text in ipairs(fields) do
    entry[#entry + 1] = text
  end
  entry[#entry + 1] = 'hash'
  entry[#entry + 1] = hash
  redis.call('XADD', audit, '*', unpack(entry))
  redis.call('HSET', head, 'hash', hash)
  return seq
end
