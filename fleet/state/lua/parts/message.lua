-- The id of the task that a message is of; nil for one that is no task's, as a stranger may send it.

local function task_of(message)
  local read, found = pcall(cjson.decode, message)
  local headers = read and type(found) == 'table' and found.headers
  local id = type(headers) == 'table' and headers.id
  return type(id) == 'string' and id or nil
end
