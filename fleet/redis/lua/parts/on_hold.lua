-- When a task on hold (state `parked`) is looked at again, in ms: when it may fit, within the hour at
-- most, because other tasks may free what they hold. A limit that was lowered may never have room. The
-- next change of the policy may bring room, and then all tasks on hold are looked at.

local function look_again_at(now, wait_ms)
  return now + (wait_ms < 0 and 3600000 or math.min(wait_ms, 3600000))
end

-- When the task may fit, to be shown.
local function may_fit_at(now, wait_ms)
  return string.format('%.0f', now + (wait_ms < 0 and 3600000 or wait_ms))
end
