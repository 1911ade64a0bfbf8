-- The model that a task's money is held for, of those that its plan allows. Five arguments are the
-- planned one: model, nano-dollars, tokens, limits of the model, why it is the planned one ('' where
-- it scored best). One before them, as JSON, has what may take its place, in this order:
--   [[model, nano-dollars, tokens, "cheaper" by the mapping or "next" by its score, limits], ...]
-- Needs book, limits, windows and time.

local choice_args = 6

local function read_choices(before, arguments)
  local a, given = before + 1, arguments or ARGV
  return {
    others = given[a],
    planned = {
      model = given[a + 1], asked = {tonumber(given[a + 2]), tonumber(given[a + 3]), 1, 1},
      limits = given[a + 4], because = given[a + 5]
    }
  }
end

-- Nil and a refusal where none fits. Near the end of a budget a cheaper one goes before the planned
-- one, where the mapping knows one; where the planned one does not fit, what comes behind it does.
local function choose(book, scopes, limits, choices, nearly, windows, ms)
  local function fit(model, asked, of_model)
    scopes[4], limits[4] = 'model:' .. model, of_model
    return refusal_of(book, scopes, limits, asked, windows, ms)
  end
  local planned = choices.planned
  local refusal, share = fit(planned.model, planned.asked, planned.limits)
  if choices.others == '[]' or not refusal and share <= nearly then
    return not refusal and planned or nil, refusal
  end
  for _, other in ipairs(cjson.decode(choices.others)) do
    local asked = {other[2], other[3], 1, 1}
    if (refusal or other[4] == 'cheaper') and not fit(other[1], asked, other[5]) then
      local because = refusal and told(refusal) or string.format('nearly|%.4f', share)
      return {model = other[1], asked = asked, because = because}
    end
  end
  return not refusal and planned or nil, refusal
end
