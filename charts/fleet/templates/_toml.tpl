{{/*
Whole numbers of values are floats in Helm, and `toToml` would write 3.0 and 1e+06. This makes them
whole again, in the map itself: {map, path}. A number that a float cannot hold is given in quotes.
*/}}
{{- define "fleet.whole" -}}
{{- $map := .map -}}
{{- $path := .path -}}
{{- range $key, $value := $map -}}
{{- $here := printf "%s.%s" $path $key -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $map $key -}}
{{- else if kindIs "map" $value -}}
{{- include "fleet.whole" (dict "map" $value "path" $here) -}}
{{- else if kindIs "slice" $value -}}
{{- $list := list -}}
{{- range $value -}}
{{- $item := dict "item" . -}}
{{- include "fleet.whole" (dict "map" $item "path" $here) -}}
{{- $list = append $list $item.item -}}
{{- end -}}
{{- $_ := set $map $key $list -}}
{{- else if and (kindIs "string" $value) (has $key (list "failures_in_row" "probes")) (regexMatch "^[0-9]{1,18}$" $value) -}}
{{- $_ := set $map $key (int64 (regexReplaceAll "^0+([0-9])" $value "${1}")) -}}
{{- else if kindIs "float64" $value -}}
{{- if eq (floor $value) $value -}}
{{- if or (gt $value 9007199254740991.0) (lt $value -9007199254740991.0) -}}
{{- fail (printf "%s: %.0f has lost digits, because a number in values is a float; write it in quotes" $here $value) -}}
{{- end -}}
{{- $_ := set $map $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "yes" if the fleet keeps secrets in this store: {root, store}. */}}
{{- define "fleet.secrets.in" -}}
{{- if has .store (dig "secrets" "stores" list .root.Values.config) -}}yes{{- end -}}
{{- end -}}

{{/* The port of Vault. */}}
{{- define "fleet.vault.port" -}}
{{- $place := urlParse (dig "secrets" "vault" "address" "" .Values.config) -}}
{{- $given := regexFind ":[0-9]+$" $place.host -}}
{{- if $given -}}{{- trimPrefix ":" $given -}}{{- else -}}{{- ternary 443 80 (eq $place.scheme "https") -}}{{- end -}}
{{- end -}}

{{/* "yes" if every process needs the token of its service account, to reach the store of secrets. */}}
{{- define "fleet.secrets.token" -}}
{{- $byKubernetes := eq (dig "secrets" "vault" "login" "kubernetes" .Values.config) "kubernetes" -}}
{{- $vault := include "fleet.secrets.in" (dict "root" . "store" "vault") -}}
{{- if or (include "fleet.secrets.in" (dict "root" . "store" "kubernetes")) (and $vault $byKubernetes) -}}yes{{- end -}}
{{- end -}}

{{/* fleet.toml: `config`, and what follows from the other values. */}}
{{- define "fleet.toml" -}}
{{- $config := deepCopy .Values.config -}}
{{- $workers := $config.workers | default dict -}}
{{- $grace := min 86400 (add (include "fleet.task.seconds" .) 30) -}}
{{- $_ := set $config "workers" (mergeOverwrite (dict "grace_seconds" $grace) $workers) -}}
{{- $actuator := get (dict "keda" "keda" "hpa" "keda" "fleet" "kubernetes" "none" "none") .Values.scaling.by -}}
{{- $scaling := $config.scaling | default dict -}}
{{- $_ := set $config "scaling" (mergeOverwrite $scaling (dict "actuator" $actuator)) -}}
{{- $_ := set $config "kubernetes" (dict "namespace" .Release.Namespace "deployment" (printf "%s-pool-{pool}" (include "fleet.fullname" .))) -}}
{{- $_ := set $config "secrets" (mergeOverwrite (dict "stores" (list "environment")) ($config.secrets | default dict)) -}}
{{- include "fleet.whole" (dict "map" $config "path" "config") -}}
{{- toToml $config -}}
{{- end -}}
