-- Say that the job has succeeded, now: missed slots are settled, errors cleared.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["crontabber.dev/mark-success"] = "now"
return obj
