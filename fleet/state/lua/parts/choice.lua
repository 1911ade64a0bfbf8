-- The model that a task's money is held for, of those that its plan allows, best first:
--   model, nano-dollars, tokens, what it is to the plan, limits of the model, why it
--   is the planned one, '' where it scored best
--   it is 'planned', 'cheaper' by the mapping, or 'next' by its score
-- Needs book, limits, windows and time.

local per_choice = 6

-- The choices are read when they are needed, which mostly is the first one alone.
local function read_choices(before, count)
  return {before = before, count = count}
end

local function choice_of(choices, number)
  local a = choices.before + (number - 1) * per_choice
  choices[number] = choices[number] or {
    model = ARGV[a + 1], asked = {tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), 1, 1},
    kind = ARGV[a + 4], limits = ARGV[a + 5], because = ARGV[a + 6]
  }
  return choices[number]
end

-- Nil and a refusal where none fits. Near the end of a budget a cheaper one goes before the planned
-- one, where the mapping knows one; where the planned one does not fit, what comes behind it does.
local function choose(book, scopes, limits, choices, nearly, windows, ms)
  local first, share
  for number = 1, choices.count do
    local choice = choice_of(choices, number)
    scopes[4], limits[4] = 'model:' .. choice.model, choice.limits
    local refusal, used = refusal_of(book, scopes, limits, choice.asked, windows, ms)
    if choice.kind == 'planned' then
      first, share = refusal, used
      if not refusal and (share <= nearly or choices.count == 1) then
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
