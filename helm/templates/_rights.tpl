{{- /*
What the operator asks of the API server in each namespace that it serves, and nothing beyond: each verb is needed, and
tests/integration/test_chart_rbac.py fails where one is missing or too many.
*/}}
{{- define "crontabber.rules" -}}
# The resource itself: read it, remove the annotations of commands that were taken up, keep the books.
- apiGroups: [crontabber.dev]
  resources: [crontabberjobs]
  verbs: [get, list, watch, patch]
- apiGroups: [crontabber.dev]
  resources: [crontabberjobs/status]
  verbs: [patch]
# Its CronJob; the status for `lastScheduleTime`, so that a resumed or edited schedule invents no runs. Deleted is one
# that a former resource of the name left, where the garbage collector doesn't do that.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs/status]
  verbs: [patch]
# The Jobs of its slots. They run whatever the resource says: with this the operator can run pods in the namespace.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# How runs ended, which pods to read; failed pods are removed once they are in the books.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, delete]
{{- if or (ne .Values.output "None") (include "crontabber.sentry" .) }}
# What commands print, and the end of it where they failed.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
# The runner of `backfillBatch`, in a ConfigMap that is made where a batch is first used and never changed.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create]
# The pod template that jobs run in, and the one before, while a rollout goes on.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list]
{{- if include "crontabber.sentry" . }}
# What it tells people; and why a pod never started, which only its Events say.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
{{- else }}
# What it tells people.
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
{{- if .Values.sentry.namespaceSecrets }}
# A namespace's own Sentry.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [crontabber-sentry]
  verbs: [get]
{{- end }}
{{- end }}
