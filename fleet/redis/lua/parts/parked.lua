-- When a parked task is looked at again, in ms: when it may fit, within the hour at most, for other
-- tasks may give back what they hold. A limit that was lowered may never have room: the next change
-- may bring it, and then all parked tasks are looked at.

local function look_again_at(now, wait)
  return now + (wait < 0 and 3600000 or math.min(wait, 3600000))
end

-- When it may fit, to be shown.
local function may_fit_at(now, wait)
  return string.format('%.0f', now + (wait < 0 and 3600000 or wait))
end
