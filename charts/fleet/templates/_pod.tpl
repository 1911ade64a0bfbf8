{{/* The variables of every process. */}}
{{- define "fleet.env" -}}
- name: FLEET_CONFIG
  value: /etc/fleet/fleet.toml
- name: FLEET_DATA_DIR
  # The volume itself is open to its group: a folder in it is the fleet's own.
  value: /data/fleet
- name: FLEET_NAMESPACE
  value: {{ .Values.fleetNamespace | quote }}
- name: FLEET_VERSION
  value: {{ .Values.image.tag | default (.Values.image.digest | replace ":" "-" | trunc 30 | default .Chart.AppVersion) | quote }}
- name: FLEET_LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: FLEET_SOCKET_TIMEOUT
  value: {{ .Values.redis.socketTimeout | quote }}
- name: FLEET_BROKER_URL
{{- with include "fleet.redis.secret" . }}
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ ternary "broker-url" $.Values.redis.secretKey (eq (include "fleet.redis.internal" $) "yes") }}
{{- else }}
  value: {{ .Values.redis.url | quote }}
{{- end }}
{{- with .Values.modelUrl }}
- name: FLEET_MODEL_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.modelKey.secretName }}
- name: FLEET_MODEL_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.modelKey.secretKey }}
{{- end }}
{{- with include "fleet.providers.secret" . }}
{{- $secret := . }}
{{- range include "fleet.provider.variables" $ | fromYamlArray }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
      optional: true
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The token of `fleet` in the pods of beat and Flower. */}}
{{- define "fleet.token.env" -}}
{{- with .Values.access.secretName -}}
- name: FLEET_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.access.secretKey }}
{{- end }}
{{- end -}}

{{- define "fleet.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "fleet.pod.security" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 2000
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Zones, then nodes: {root, component, pool}. */}}
{{- define "fleet.spread" -}}
{{- $selector := include "fleet.selector" . -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- $selector | nindent 6 }}
{{- end }}
{{- end -}}

{{/* The annotations of a pod that runs Fleet: {root, annotations}. A changed fleet.toml rolls the pods. */}}
{{- define "fleet.pod.annotations" -}}
{{- $root := .root -}}
checksum/config: {{ include "fleet.toml" $root | sha256sum }}
{{- with $root.Values.providerKeys.vault }}
{{- if .enabled }}
vault.hashicorp.com/agent-inject: "true"
vault.hashicorp.com/agent-pre-populate-only: "true"
vault.hashicorp.com/agent-run-as-same-user: "true"
vault.hashicorp.com/role: {{ .role | quote }}
vault.hashicorp.com/agent-inject-secret-providers.env: {{ .path | quote }}
vault.hashicorp.com/agent-inject-template-providers.env: |
  {{ "{{" }}- with secret {{ .path | quote }} {{ "}}" }}
  {{ "{{" }}- range $name, $value := .Data.data {{ "}}" }}
  export {{ "{{" }} $name {{ "}}" }}='{{ "{{" }} $value {{ "}}" }}'
  {{ "{{" }}- end {{ "}}" }}
  {{ "{{" }}- end {{ "}}" }}
{{- end }}
{{- end }}
{{- with .annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The command of a process of Fleet: {root, args}. Vault's file holds variables. */}}
{{- define "fleet.command" -}}
{{- if .root.Values.providerKeys.vault.enabled -}}
command: ["/bin/sh", "-c", '. /vault/secrets/providers.env && exec fleet "$@"', fleet]
{{- else -}}
command: [fleet]
{{- end }}
args: {{ .args | toJson }}
{{- end -}}

{{/*
A pod with one process of Fleet: {root, component, pool, account, args, resources, env, ports, probes,
data, grace, settings, token, restart}. `data` is a claim for /data; without it, /data is empty at each start.
*/}}
{{- define "fleet.pod" -}}
{{- $root := .root -}}
{{- $settings := .settings | default dict -}}
metadata:
  labels:
    {{- include "fleet.labels" . | nindent 4 }}
  annotations:
    {{- include "fleet.pod.annotations" (dict "root" $root "annotations" $settings.podAnnotations) | nindent 4 }}
spec:
  serviceAccountName: {{ .account }}
  automountServiceAccountToken: {{ or .token $root.Values.providerKeys.vault.enabled (eq (include "fleet.secrets.token" $root) "yes") | default false }}
  enableServiceLinks: false
  {{- with .restart }}
  restartPolicy: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .grace }}
  {{- with include "fleet.priority" (dict "root" $root "given" $settings.priorityClassName "class" (ternary "workers" "control" (eq .component "pool"))) }}
  {{ . }}
  {{- end }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- include "fleet.pod.security" $root | nindent 4 }}
  {{- with $settings.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $settings.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $settings.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and (get $settings "topologySpread") (ne (.restart | default "") "Never") }}
  topologySpreadConstraints:
    {{- include "fleet.spread" . | trim | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "fleet.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- include "fleet.command" . | nindent 6 }}
      env:
        {{- include "fleet.env" $root | nindent 8 }}
        {{- with .env }}
        {{- . | nindent 8 }}
        {{- end }}
      {{- with .ports }}
      ports:
        {{- range $name, $port := . }}
        - name: {{ $name }}
          containerPort: {{ $port }}
          protocol: TCP
        {{- end }}
      {{- end }}
      {{- with .probes }}
      {{- . | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "fleet.container.security" $root | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/fleet/fleet.toml, subPath: fleet.toml, readOnly: true}
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
        {{- if $root.Values.redis.tlsSecretName }}
        - {name: redis-tls, mountPath: /etc/fleet/redis, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "fleet.fullname" $root }}-config
    - name: data
      {{- if .data }}
      persistentVolumeClaim:
        claimName: {{ .data }}
      {{- else }}
      emptyDir: {sizeLimit: 1Gi}
      {{- end }}
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- with $root.Values.redis.tlsSecretName }}
    - name: redis-tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
{{- end -}}

{{/* Probes of a process without HTTP, which touches a file in its data folder while it lives: {name, minutes}. */}}
{{- define "fleet.file.probes" -}}
{{- $young := printf "test -n \"$(find /data/fleet/alive -name %s -mmin -%d)\"" .name (int .minutes) -}}
startupProbe:
  exec:
    command: [sh, -c, {{ $young | squote }}]
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  exec:
    command: [sh, -c, {{ $young | squote }}]
  periodSeconds: 30
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}
