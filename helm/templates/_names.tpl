{{- /* Names, labels and other words that several templates share. */}}

{{- define "crontabber.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "crontabber.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "crontabber.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "crontabber.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Name of cluster-wide objects: releases of one name in two namespaces must not meet. */}}
{{- define "crontabber.clusterName" -}}
{{- $name := include "crontabber.fullname" . }}
{{- if eq $name .Release.Namespace }}
{{- $name }}
{{- else }}
{{- printf "%s-%s" .Release.Namespace $name }}
{{- end }}
{{- end }}

{{- /* The Role for the Lease. It may be in a namespace that has the operator's own Role, too. */}}
{{- define "crontabber.leaseRole" -}}
{{- printf "%s-lease" (include "crontabber.fullname" . | trunc 57 | trimSuffix "-") }}
{{- end }}

{{- define "crontabber.selectorLabels" -}}
app.kubernetes.io/name: {{ include "crontabber.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "crontabber.labels" -}}
{{- include "crontabber.labelsAnd" (list . dict) }}
{{- end }}

{{- /* Those of every object and further ones, each key once: the chart's own are never replaced, as selectors go by them. */}}
{{- define "crontabber.labelsAnd" -}}
{{- $root := first . }}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/part-of" "crontabber"
}}
{{- $selected := include "crontabber.selectorLabels" $root | fromYaml }}
{{- toYaml (merge dict $selected $own (default dict (last .)) $root.Values.commonLabels) }}
{{- end }}

{{- /* A Service's name must be a DNS label. */}}
{{- define "crontabber.pageName" -}}
{{- printf "%s-page" (include "crontabber.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- define "crontabber.metricsName" -}}
{{- printf "%s-metrics" (include "crontabber.fullname" . | trunc 55 | trimSuffix "-") }}
{{- end }}

{{- define "crontabber.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "crontabber.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "crontabber.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* Where `helm test` makes its job: a namespace that the operator serves. */}}
{{- define "crontabber.testNamespace" -}}
{{- if or (not .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) }}
{{- .Release.Namespace }}
{{- else }}
{{- first .Values.watchNamespaces }}
{{- end }}
{{- end }}

{{- /* Words, quoted as for a shell; the kubelet takes `$$` in arguments for one `$`. */}}
{{- define "crontabber.words" -}}
{{- $words := list }}
{{- range . }}
{{- $words = append $words (regexMatch "^[A-Za-z0-9_./:=@%+,-]+$" . | ternary . (printf "'%s'" (replace "'" "'\\''" .))) }}
{{- end }}
{{- join " " $words | replace "$" "$$" }}
{{- end }}

{{- /* Not empty where anything may be reported to Sentry. */}}
{{- define "crontabber.sentry" -}}
{{- if or .Values.sentry.dsn .Values.sentry.existingSecret.name .Values.sentry.namespaceSecrets }}on{{ end }}
{{- end }}

{{- /* The operator's environment variables. */}}
{{- define "crontabber.env" -}}
{{- if ne .Values.output "None" }}
- name: XDG_STATE_HOME
  value: /state
{{- end }}
{{- if .Values.leaderElection.enabled }}
# What it writes into the Lease.
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- with .Values.sentry }}
{{- if .existingSecret.name }}
- name: SENTRY_DSN
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret.name }}
      key: {{ .existingSecret.key }}
{{- else if .dsn }}
- name: SENTRY_DSN
  value: {{ .dsn | quote }}
{{- end }}
{{- if .environment }}
- name: SENTRY_ENVIRONMENT
  value: {{ .environment | quote }}
{{- end }}
{{- if .release }}
- name: SENTRY_RELEASE
  value: {{ .release | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
