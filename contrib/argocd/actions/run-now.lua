-- Run the job once, at once, outside the bookkeeping.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["crontabber.dev/run-now"] = ""
return obj
