-- List the commands that the caller's user has no right to run.
--
-- KEYS  none: nothing is read or written
-- ARGV  1 commands with their arguments, as JSON: [["GET", "KEY"], ...]
-- Returns those that the user may not run, each as one string; none from a Redis before 7.0, which
--       cannot check
--
-- Invariant: no command is run.

local commands = unpack(ARGV)

local refused = {}
if not redis.acl_check_cmd then
  return refused
end
for _, command in ipairs(cjson.decode(commands)) do
  if not redis.acl_check_cmd(unpack(command)) then
    refused[#refused + 1] = table.concat(command, ' ')
  end
end
return refused
