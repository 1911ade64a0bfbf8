{{/* A field of a pool in fleet.toml, or Fleet's default, as a whole number: {pool, key}. */}}
{{- define "fleet.pool.number" -}}
{{- $usual := dict "slots" 10 "min" 1 "max" 4 -}}
{{- ternary (get .pool .key) (get $usual .key) (hasKey .pool .key) | int64 -}}
{{- end -}}

{{/* A pool's share of the overflow queue of its agent type, by its slots: {root, pool}. */}}
{{- define "fleet.pool.share" -}}
{{- $own := index .root.Values.config.pools .pool -}}
{{- $all := 0 -}}
{{- range $_, $pool := .root.Values.config.pools -}}
{{- if eq $pool.agent_type $own.agent_type -}}
{{- $all = add $all (mul (include "fleet.pool.number" (dict "pool" $pool "key" "slots")) (include "fleet.pool.number" (dict "pool" $pool "key" "max"))) -}}
{{- end -}}
{{- end -}}
{{- $mine := mul (include "fleet.pool.number" (dict "pool" $own "key" "slots")) (include "fleet.pool.number" (dict "pool" $own "key" "max")) -}}
{{- round (divf $mine $all) 4 -}}
{{- end -}}

{{/*
What KEDA's Redis triggers count, by the name that the formula uses, as YAML: {root, pool}. A queue is
several lists, by priority: see fleet/redis/keys.py.
*/}}
{{- define "fleet.pool.counted" -}}
{{- $tag := printf "{%s}" .root.Values.fleetNamespace -}}
{{- $config := index .root.Values.config.pools .pool -}}
{{- $queues := dict "own" ($config.queue | default (printf "%s.%s" $tag .pool)) "overflow" (printf "%s.overflow.%s" $tag $config.agent_type) -}}
{{- $found := dict -}}
{{- range $kind, $queue := $queues -}}
{{- range $priority := list "" "3" "6" "9" -}}
{{- $_ := set $found (printf "%s%s" $kind $priority) (printf "%s%s" $queue (ternary (printf "\x06\x16%s" $priority) "" (ne $priority ""))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* A Redis trigger: {root, name, list, length}. */}}
{{- define "fleet.redis.trigger" -}}
{{- $place := include "fleet.redis.place" .root | fromYaml -}}
- type: {{ ternary "redis-sentinel" "redis" $place.sentinel }}
  {{- with .name }}
  name: {{ . }}
  {{- end }}
  metadata:
    {{- if $place.sentinel }}
    addresses: {{ join "," $place.hosts | quote }}
    sentinelMaster: {{ $place.master | quote }}
    {{- else }}
    address: {{ first $place.hosts | quote }}
    {{- end }}
    databaseIndex: {{ $place.database | quote }}
    {{- if and $place.tls (not .root.Values.scaling.keda.redis.caKey) }}
    enableTLS: "true"
    {{- end }}
    listName: {{ .list | toJson }}
    listLength: {{ .length | toString | quote }}
    activationListLength: "0"
  {{- if or (include "fleet.redis.internal" .root) .root.Values.scaling.keda.redis.secretName }}
  authenticationRef:
    name: {{ include "fleet.fullname" .root }}-keda-redis
  {{- end }}
{{- end -}}

{{/* Scaling down slowly and up at once. */}}
{{- define "fleet.behavior" -}}
scaleDown:
  stabilizationWindowSeconds: {{ . | int }}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - {type: Percent, value: 400, periodSeconds: 15}
    - {type: Pods, value: 10, periodSeconds: 15}
{{- end -}}
