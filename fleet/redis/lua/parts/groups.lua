-- Walk through the tail of KEYS or ARGV in groups of a fixed size.
--
--   for id, fence in groups(ARGV, 2, 2) do ... end
--
-- It is an iterator, so that two tails of the same length can be read side by side.

local function groups(list, first, size)
  local at = first - size
  return function()
    at = at + size
    if list[at] then
      return unpack(list, at, at + size - 1)
    end
  end
end
