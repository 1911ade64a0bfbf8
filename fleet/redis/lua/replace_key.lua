-- End the cool-downs of a key whose value was replaced: the new value did not cause them.
--
-- KEYS  1 models
-- ARGV  1 field of the key's version  2 the version that is in use now  3 the beginning of the fields
--       of its cool-downs
-- Returns 1 where the version is newer than the one known before, else 0; nothing was written then
--
-- Invariant: the known version only grows. A cool-down that the version in use has caused stays.

local models = unpack(KEYS)
local version_field, version, prefix = unpack(ARGV)

if tonumber(version) <= tonumber(redis.call('HGET', models, version_field) or 0) then
  return 0
end
redis.call('HSET', models, version_field, version)
for _, field in ipairs(redis.call('HKEYS', models)) do
  if string.sub(field, 1, #prefix) == prefix then
    redis.call('HDEL', models, field)
  end
end
return 1
