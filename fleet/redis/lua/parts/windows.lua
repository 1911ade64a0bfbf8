-- The UTC hour, day and month of a moment, in seconds since 1970, as the names of windows:
--   h2026112421, d20261124, m202611
-- The date is computed by Howard Hinnant's civil_from_days: years begin in March, so a leap day is last.

local function windows_of(seconds)
  local floor = math.floor
  local days = floor(seconds / 86400) + 719468
  local era = floor(days / 146097)
  local day_of_era = days - era * 146097
  local year_of_era = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524)
    - floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year_of_era + floor(year_of_era / 4)
    - floor(year_of_era / 100))
  local from_march = floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - floor((153 * from_march + 2) / 5) + 1
  local month = from_march < 10 and from_march + 3 or from_march - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  local date = string.format('%04d%02d%02d', year, month, day)
  local hour = string.format('%02d', floor(seconds % 86400 / 3600))
  return {'h' .. date .. hour, 'd' .. date, 'm' .. string.sub(date, 1, 6)}
end
