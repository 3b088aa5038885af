-- Which actions Argo CD offers for a CrontabberJob: not those of a command that is still waiting.
local annotations = obj.metadata.annotations or {}
return {
  ["mark-success"] = { disabled = annotations["crontabber.dev/mark-success"] ~= nil },
  ["reset"] = { disabled = annotations["crontabber.dev/reset"] ~= nil },
  ["run-now"] = { disabled = annotations["crontabber.dev/run-now"] ~= nil },
}
