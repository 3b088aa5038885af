-- The health of a CrontabberJob in Argo CD, from its conditions.
--
--   Degraded     a person must change the spec, or the last run failed (a retry may mend that)
--   Suspended    no new runs, as the spec says
--   Progressing  not scheduled yet: the operator, or the web app's rollout, is waited for
--   Healthy      accepted and scheduled, nothing failed; perhaps catching up
local status = obj.status
if status == nil or status.conditions == nil then
  return { status = "Progressing", message = "Waiting for the operator." }
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function told(name, value)
  local condition = conditions[name]
  return condition ~= nil and condition.status == value
end

local function message(name)
  local condition = conditions[name]
  return condition ~= nil and condition.message or ""
end

if told("Stalled", "True") then
  return { status = "Degraded", message = message("Stalled") }
end
if status.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and status.observedGeneration < obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator to see the change." }
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return { status = "Suspended", message = message("Ready") }
end
if status.state == "RetriesExhausted" or told("LastRunSucceeded", "False") then
  return { status = "Degraded", message = message("LastRunSucceeded") }
end
if told("Ready", "False") and not string.find(conditions["Ready"].reason, "^WebApp") then
  return { status = "Degraded", message = message("Ready") }
end
if not told("Ready", "True") then
  return { status = "Progressing", message = message("Ready") }
end
-- Catching up may take hours, and no sync wave should wait for it.
if told("CaughtUp", "False") then
  return { status = "Healthy", message = message("CaughtUp") }
end
return { status = "Healthy", message = message("Ready") }
