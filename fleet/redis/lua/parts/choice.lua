-- The model that a task's money is held for: one of those that the task's plan allows.
--
-- The choices, as the caller names them:
--   others    JSON of the models that may take the place of the planned one, in this order:
--             [[model, nano-dollars, tokens, "cheaper" by the mapping or "next" by its score,
--             limits], ...]
--   planned   {model, asked: nano-dollars, tokens, requests, tasks; limits, reason: why this model
--             is the planned one, '' where it scored best}
-- Needs usage_counters, limits, windows and time.

local function choices_of(others, model, nanodollars, tokens, limits, reason)
  local asked = {tonumber(nanodollars), tonumber(tokens), 1, 1}
  return {
    others = others,
    planned = {model = model, asked = asked, limits = limits, reason = reason}
  }
end

-- Returns nil and a refusal where no model fits. Near the end of a budget a cheaper model goes
-- before the planned one, where the mapping knows one. Where the planned model does not fit, the
-- next ones are tried.
local function choose(counters, scopes, limits, choices, nearly, windows, ms)
  local function fit(model, asked, of_model)
    scopes[4], limits[4] = 'model:' .. model, of_model
    return refusal_of(counters, scopes, limits, asked, windows, ms)
  end
  local planned = choices.planned
  local refusal, share = fit(planned.model, planned.asked, planned.limits)
  if choices.others == '[]' or not refusal and share <= nearly then
    return not refusal and planned or nil, refusal
  end
  for _, other in ipairs(cjson.decode(choices.others)) do
    local model, nanodollars, tokens, kind, of_model = unpack(other)
    local asked = {nanodollars, tokens, 1, 1}
    if (refusal or kind == 'cheaper') and not fit(model, asked, of_model) then
      local reason = refusal and described(refusal) or string.format('nearly|%.4f', share)
      return {model = model, asked = asked, reason = reason}
    end
  end
  return not refusal and planned or nil, refusal
end
