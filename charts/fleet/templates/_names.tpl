{{/* The version of Kubernetes: that of the cluster, unless a value says otherwise. */}}
{{- define "fleet.kubernetes" -}}
{{- .Values.kubeVersion | default .Capabilities.KubeVersion.Version -}}
{{- end -}}

{{- define "fleet.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name -}}
{{- end -}}

{{/* The name of a pool's objects. Underscores are for Redis, not for Kubernetes. */}}
{{- define "fleet.pool.name" -}}
{{- printf "%s-pool-%s" (include "fleet.fullname" .root) (include "fleet.pool.label" .pool) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "fleet.pool.label" -}}
{{- . | replace "_" "-" | trimSuffix "-" -}}
{{- end -}}

{{/* What selects the pods of a component: {root, component, pool}. Never the version: selectors do not change. */}}
{{- define "fleet.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .pool }}
fleet/pool: {{ include "fleet.pool.label" . }}
{{- end }}
{{- end -}}

{{- define "fleet.labels" -}}
{{ include "fleet.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "fleet.meta" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "fleet.labels" . | nindent 2 }}
{{- end -}}

{{- define "fleet.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pool's own settings over those of all pools, as YAML: {root, pool}. */}}
{{- define "fleet.pool.settings" -}}
{{- $own := index .root.Values.pools .pool | default dict -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.poolDefaults) (deepCopy $own)) -}}
{{- end -}}

{{- define "fleet.task.seconds" -}}
{{- dig "limits" "task_seconds" 600 .Values.config | ceil | int64 -}}
{{- end -}}

{{/* The task limit and 60 s: a worker that is told to stop may finish its tasks. */}}
{{- define "fleet.termination" -}}
{{- add (include "fleet.task.seconds" . | int64) 60 -}}
{{- end -}}

{{/* Whether Redis runs in the release: yes, or nothing. */}}
{{- define "fleet.redis.internal" -}}
{{- if and .Values.redis.internal.enabled (not .Values.redis.url) (not .Values.redis.secretName) }}yes{{ end -}}
{{- end -}}

{{- define "fleet.redis.host" -}}
{{ include "fleet.fullname" . }}-redis
{{- end -}}

{{- define "fleet.redis.secret" -}}
{{- if include "fleet.redis.internal" . -}}
{{ include "fleet.fullname" . }}-redis
{{- else -}}
{{ .Values.redis.secretName }}
{{- end -}}
{{- end -}}

{{/* The address of Redis taken apart, as YAML: scheme, hosts, database, master. */}}
{{- define "fleet.redis.place" -}}
{{- $url := .Values.redis.url -}}
{{- if include "fleet.redis.internal" . -}}
{{- $url = printf "redis://%s.%s.svc:6379/0" (include "fleet.redis.host" .) .Release.Namespace -}}
{{- end -}}
{{- $rest := regexReplaceAll "^[a-z]+://" $url "" -}}
{{- $scheme := regexFind "^[a-z]+" $url -}}
{{- $sentinel := hasPrefix "sentinel" $scheme -}}
{{- $usual := ternary "26379" "6379" $sentinel -}}
{{- $hosts := list -}}
{{- range splitList "," (regexReplaceAll "[/?].*$" $rest "") -}}
{{- $hosts = append $hosts (ternary . (printf "%s:%s" . $usual) (contains ":" .)) -}}
{{- end -}}
{{- $database := regexFind "/[0-9]+" $rest | trimPrefix "/" | default "0" -}}
{{- dict "tls" (has $scheme (list "rediss" "sentinels")) "sentinel" $sentinel "hosts" $hosts "database" $database "master" (regexReplaceAll "^.master=" (regexFind "[?&]master=[^&]+" $rest) "") | toYaml -}}
{{- end -}}

{{/* The variables that hold providers' keys, as a YAML list. */}}
{{- define "fleet.provider.variables" -}}
{{- $found := list -}}
{{- if hasKey .Values.config "providers" -}}
{{- range $name, $provider := .Values.config.providers -}}
{{- with $provider }}{{ with .key_variable }}{{ $found = append $found . }}{{ end -}}
{{- range $own, $key := .keys }}{{ with $key.variable }}{{ $found = append $found . }}{{ end }}{{ end }}{{ end -}}
{{- end -}}
{{- else -}}
{{- $found = list "ANTHROPIC_API_KEY" "GEMINI_API_KEY" "OPENAI_API_KEY" -}}
{{- end -}}
{{- $found | uniq | sortAlpha | toYaml -}}
{{- end -}}

{{- define "fleet.providers.secret" -}}
{{- .Values.providerKeys.secretName | default (ternary (printf "%s-providers" (include "fleet.fullname" .)) "" .Values.providerKeys.externalSecret.enabled) -}}
{{- end -}}

{{- define "fleet.flower.secret" -}}
{{- .Values.flower.secretName | default (printf "%s-flower" (include "fleet.fullname" .)) -}}
{{- end -}}

{{/* A value of a Secret that exists, or a random one: {root, name, key, given}. */}}
{{- define "fleet.kept" -}}
{{- $old := lookup "v1" "Secret" .root.Release.Namespace .name -}}
{{- if .given -}}
{{ .given }}
{{- else if and $old (hasKey ($old.data | default dict) .key) -}}
{{ index $old.data .key | b64dec }}
{{- else -}}
{{ randAlphaNum 32 }}
{{- end -}}
{{- end -}}

{{/* Whether somebody else than the chart sets the replicas of the pools. */}}
{{- define "fleet.scaled" -}}
{{- if ne .Values.scaling.by "none" }}yes{{ end -}}
{{- end -}}

{{- define "fleet.priority" -}}
{{- if .given -}}
priorityClassName: {{ .given }}
{{- else if .root.Values.priorityClasses.create -}}
priorityClassName: {{ include "fleet.fullname" .root }}-{{ .class }}
{{- end -}}
{{- end -}}
