-- Forget all bookkeeping of the job, as if it had never run.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["crontabber.dev/reset"] = ""
return obj
