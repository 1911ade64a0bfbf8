-- Change what tokens grant, all of them or none, and note each change in the audit.
--
-- KEYS  1 tokens  2 audit  3 the audit's head
-- ARGV  1 actor  2 where the actor is  3 reason
--       then for each token: hash of the token, stored grant before ('' if there was none), grant after
--       ('' to take the token away), and for the audit: what is done, and about which token
-- Returns 1 if the tokens are as wanted now; 0 if another process has changed one of them
--
-- Invariant: a grant is replaced only by a caller that knows it, and each change has an entry in the
-- audit. The audit never holds a hash. A change that is sent again finds the grants as wanted, and
-- neither changes nor notes anything.

-- include groups

local tokens, audit, head = unpack(KEYS)
local actor, where, reason = unpack(ARGV, 1, 3)
local wanted = groups(ARGV, 4, 5)

-- include time
-- include sha256
-- include chain

local changes, done = {}, true
for hash, before, after, what, about in wanted do
  local found = redis.call('HGET', tokens, hash) or ''
  if found ~= after then
    done = false
    if found ~= before then
      return 0
    end
  end
  changes[#changes + 1] = {hash = hash, after = after, what = what, about = about}
end
if done then
  return 1
end
for _, change in ipairs(changes) do
  if change.after == '' then
    redis.call('HDEL', tokens, change.hash)
  else
    redis.call('HSET', tokens, change.hash, change.after)
  end
  local facts = {
    'kind', 'grant', 'what', change.what, 'about', change.about,
    'by', actor, 'where', where, 'why', reason,
  }
  chained(audit, head, now, facts_digest(facts), facts)
end
return 1
