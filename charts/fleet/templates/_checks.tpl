{{/* What the schema cannot see. Each sentence names the value. `helm lint` ignores `fail`, rendering does not. */}}
{{- define "fleet.checks" -}}
{{- include "fleet.checks.cluster" . -}}
{{- include "fleet.checks.pools" . -}}
{{- include "fleet.checks.redis" . -}}
{{- include "fleet.checks.scaling" . -}}
{{- include "fleet.checks.rest" . -}}
{{- end -}}

{{- define "fleet.checks.cluster" -}}
{{- $kubernetes := include "fleet.kubernetes" . -}}
{{- if semverCompare "<1.29.0-0" $kubernetes -}}
{{- fail (printf "Kubernetes %s is too old for this chart; use 1.29 or newer" $kubernetes) -}}
{{- end -}}
{{- $name := include "fleet.fullname" . -}}
{{- if gt (len $name) 30 -}}
{{- fail (printf "fullnameOverride: the name %s has %d characters, and 30 is the most; set a shorter one" $name (len $name)) -}}
{{- end -}}
{{- if eq (.Values.image.tag | toString) "latest" -}}
{{- fail "image.tag: latest changes under running pods; name a version or set image.digest" -}}
{{- end -}}
{{- end -}}

{{- define "fleet.checks.pools" -}}
{{- if not .Values.config.pools -}}
{{- fail "config.pools: no pool is left; name one" -}}
{{- end -}}
{{- range $name, $_ := .Values.pools -}}
{{- /* values.yaml has settings for codegen, a pool that may have been removed. */ -}}
{{- if not (or (hasKey $.Values.config.pools $name) (eq $name "codegen")) -}}
{{- fail (printf "pools.%s: config.pools has no such pool; correct the name or remove it" $name) -}}
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $name, $pool := .Values.config.pools -}}
{{- if not (kindIs "map" $pool) -}}
{{- fail (printf "config.pools.%s: has to be a map with agent_type and so on" $name) -}}
{{- end -}}
{{- $object := include "fleet.pool.name" (dict "root" $ "pool" $name) -}}
{{- if hasKey $seen $object -}}
{{- fail (printf "config.pools: %s and %s would share the Deployment %s; rename one" (get $seen $object) $name $object) -}}
{{- end -}}
{{- $_ := set $seen $object $name -}}
{{- $min := include "fleet.pool.number" (dict "pool" $pool "key" "min") | int64 -}}
{{- $max := include "fleet.pool.number" (dict "pool" $pool "key" "max") | int64 -}}
{{- if gt $min $max -}}
{{- fail (printf "config.pools.%s.min: %d is over its max, %d; lower min or raise max" $name $min $max) -}}
{{- end -}}
{{- end -}}
{{- $grace := dig "workers" "grace_seconds" 0 .Values.config | int64 -}}
{{- $most := include "fleet.termination" . | int64 -}}
{{- if ge $grace $most -}}
{{- fail (printf "config.workers.grace_seconds: %d is not under %d (config.limits.task_seconds and 60), when Kubernetes kills the worker; lower it" $grace $most) -}}
{{- end -}}
{{- end -}}

{{- define "fleet.checks.redis" -}}
{{- $redis := .Values.redis -}}
{{- if not (or (include "fleet.redis.internal" .) $redis.url $redis.secretName) -}}
{{- fail "redis: nothing says where Redis is; set redis.url, redis.secretName or redis.internal.enabled" -}}
{{- end -}}
{{- if contains "@" $redis.url -}}
{{- fail "redis.url: it holds a login; put the whole address into a Secret and name it in redis.secretName" -}}
{{- end -}}
{{- if and (hasPrefix "sentinel" $redis.url) (not (regexMatch "[?&]master=[^&]" $redis.url)) -}}
{{- fail "redis.url: it names no master; use sentinel://HOST:26379,HOST:26379/0?master=NAME" -}}
{{- end -}}
{{- end -}}

{{- define "fleet.checks.scaling" -}}
{{- $scaling := .Values.scaling -}}
{{- $keda := eq $scaling.by "keda" -}}
{{- $direct := and $keda (eq $scaling.keda.trigger "redis") -}}
{{- if and $direct (not (include "fleet.redis.internal" .)) (not .Values.redis.url) -}}
{{- fail "redis.url: KEDA reads the queues and needs to know where Redis is; set it, without a login, or set scaling.keda.trigger to metrics-api" -}}
{{- end -}}
{{- if and $direct (not (include "fleet.redis.internal" .)) .Values.redis.secretName (not $scaling.keda.redis.secretName) -}}
{{- fail "scaling.keda.redis.secretName: Redis needs a login, so KEDA needs one of its own; name its Secret" -}}
{{- end -}}
{{- if and (not .Values.ops.enabled) (or (eq $scaling.by "hpa") (and $keda (not $direct))) -}}
{{- fail "ops.enabled: the pools are scaled by what the ops endpoint says; switch it on, or set scaling.keda.trigger to redis" -}}
{{- end -}}
{{- if and $keda (eq $scaling.keda.trigger "prometheus") (not $scaling.keda.prometheus.serverAddress) -}}
{{- fail "scaling.keda.prometheus.serverAddress: KEDA needs the address of Prometheus; set it" -}}
{{- end -}}
{{- if and (eq $scaling.by "hpa") (semverCompare "<1.37.0-0" (include "fleet.kubernetes" .)) -}}
{{- range $name, $pool := .Values.config.pools -}}
{{- if eq (int64 (get $pool "min" | default 0)) 0 -}}
{{- if hasKey $pool "min" -}}
{{- fail (printf "config.pools.%s.min: a HorizontalPodAutoscaler scales to 0 from Kubernetes 1.37 on, and this is %s; set 1 or more, or scaling.by to keda" $name (include "fleet.kubernetes" $)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := .Values.config.pools -}}
{{- $settings := include "fleet.pool.settings" (dict "root" $ "pool" $name) | fromYaml -}}
{{- if and $settings.oneShot (not $keda) -}}
{{- fail (printf "pools.%s.oneShot: only KEDA starts Jobs; set scaling.by to keda, or oneShot to false" $name) -}}
{{- end -}}
{{- end -}}
{{- if .Values.config.kubernetes -}}
{{- fail "config.kubernetes: the chart writes it; remove it" -}}
{{- end -}}
{{- if dig "scaling" "actuator" "" .Values.config -}}
{{- fail "config.scaling.actuator: it follows from scaling.by; remove it" -}}
{{- end -}}
{{- end -}}

{{- define "fleet.checks.rest" -}}
{{- with .Values.beat -}}
{{- if and (gt (int .replicas) 1) .persistence.enabled (ne .persistence.accessMode "ReadWriteMany") -}}
{{- fail (printf "beat.replicas: %d beats cannot share a volume that is %s; set beat.persistence.accessMode to ReadWriteMany" (int .replicas) .persistence.accessMode) -}}
{{- end -}}
{{- end -}}
{{- with .Values.ops.autoscaling -}}
{{- if gt (int .min) (int .max) -}}
{{- fail (printf "ops.autoscaling.min: %d is over ops.autoscaling.max, %d; lower it" (int .min) (int .max)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.providerKeys -}}
{{- if and .externalSecret.enabled (not (and .externalSecret.store.name .externalSecret.remoteKey)) -}}
{{- fail "providerKeys.externalSecret: it needs store.name and remoteKey; set both" -}}
{{- end -}}
{{- if and .vault.enabled (not (and .vault.role .vault.path)) -}}
{{- fail "providerKeys.vault: it needs role and path; set both" -}}
{{- end -}}
{{- end -}}
{{- if include "fleet.secrets.in" (dict "root" . "store" "file") -}}
{{- fail "config.secrets.stores: each pod would have files of its own; use vault or kubernetes instead of file" -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if hasPrefix "FLEET_" .name -}}
{{- fail (printf "extraEnv: %s is set by the chart; use the value that README.md names for it" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
