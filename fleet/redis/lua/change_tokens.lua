-- Change what tokens grant, all of them or none, and note each change in the audit.
--
-- KEYS  1 tokens  2 audit  3 policy
-- ARGV  1 actor  2 reason  3 about how many entries the audit keeps
--       then for each token: hash of the token, name of its field in the audit, stored grant before
--       ('' if there was none), grant after ('' to take the token away), both in words for the audit
-- Returns 1 if the tokens are as wanted now; 0 if another process has changed one of them
--
-- Invariant: a grant is replaced only by a caller that knows it, and each change has an entry in the
-- audit. The audit never holds a hash. A change that is sent again finds the grants as wanted, and
-- neither changes nor notes anything.

-- include groups

local tokens, audit, policy = unpack(KEYS)
local actor, reason, max_entries = unpack(ARGV, 1, 3)
local wanted = groups(ARGV, 4, 6)

local changes, done = {}, true
for hash, field, before, after, was, is in wanted do
  local found = redis.call('HGET', tokens, hash) or ''
  if found ~= after then
    done = false
    if found ~= before then
      return 0
    end
  end
  changes[#changes + 1] = {hash = hash, field = field, after = after, was = was, is = is}
end
if done then
  return 1
end
local version = redis.call('HGET', policy, 'version') or '0'
for _, change in ipairs(changes) do
  if change.after == '' then
    redis.call('HDEL', tokens, change.hash)
  else
    redis.call('HSET', tokens, change.hash, change.after)
  end
  redis.call('XADD', audit, 'MAXLEN', '~', max_entries, '*', 'version', version,
    'field', change.field, 'before', change.was, 'after', change.is, 'by', actor, 'why', reason)
end
return 1
