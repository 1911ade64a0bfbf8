-- The model that a task's money is held for, of those that its plan allows, best first:
--   model, nano-dollars, tokens, what it is to the plan, limits of the model, why it
--   is the planned one, '' where it scored best
--   it is 'planned', 'cheaper' by the mapping, or 'next' by its score
-- Needs book, limits, windows and time.

local per_choice = 6

local function read_choices(before, count)
  local choices = {}
  for i = 1, count do
    local a = before + (i - 1) * per_choice
    choices[i] = {
      model = ARGV[a + 1], asked = {tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), 1, 1},
      kind = ARGV[a + 4], limits = ARGV[a + 5], because = ARGV[a + 6]
    }
  end
  return choices
end

-- Nil and a refusal where none fits. Near the end of a budget a cheaper one goes before the planned
-- one, where the mapping knows one; where the planned one does not fit, what comes behind it does.
local function choose(book, scopes, limits, choices, nearly, windows, ms)
  local first, share
  for _, choice in ipairs(choices) do
    scopes[4], limits[4] = 'model:' .. choice.model, choice.limits
    local refusal, used = refusal_of(book, scopes, limits, choice.asked, windows, ms)
    if choice.kind == 'planned' then
      first, share = refusal, used
      if not refusal and (share <= nearly or #choices == 1) then
        return choice
      end
    elseif not refusal and (first or choice.kind == 'cheaper') then
      return {
        model = choice.model, asked = choice.asked,
        because = first and told(first) or string.format('nearly|%.4f', share)
      }
    end
  end
  if not first then
    return choices[1]
  end
  return nil, first
end

-- Hold what the choice asks for.
local function reserve(book, reservations, id, tenant, agent_type, choice)
  local names = {tenant, agent_type, choice.model}
  hold(book, scopes_of(names), choice.asked)
  redis.call('HSET', reservations, id,
    packed_amounts(choice.asked, cjson.encode(names)))
end
