-- The id of the task that a message belongs to; nil for a message of no task, which other programs
-- may send.

-- Whether a text is UTF-8, so that its reader can name what the text names.
local function is_utf8(text)
  if not string.find(text, '[\128-\255]') then
    return true
  end
  local rest = string.gsub(text, '[%z\1-\127]', '')
  rest = string.gsub(rest, '[\194-\223][\128-\191]', '')
  rest = string.gsub(rest, '\237[\160-\191][\128-\191]', '\255')
  rest = string.gsub(rest, '[\224-\239][\128-\191][\128-\191]', '')
  rest = string.gsub(rest, '[\240-\244][\128-\191][\128-\191][\128-\191]', '')
  return rest == ''
end

local function task_of(message)
  local read, found = pcall(cjson.decode, message)
  local headers = read and type(found) == 'table' and found.headers
  local id = type(headers) == 'table' and headers.id
  return type(id) == 'string' and is_utf8(id) and id or nil
end
