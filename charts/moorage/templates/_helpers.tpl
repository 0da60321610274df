{{/* The name that every object of the release begins with. */}}
{{- define "moorage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "moorage.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "moorage.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "moorage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "moorage.selector" -}}
app.kubernetes.io/name: {{ include "moorage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{/* Labels of an object; the argument is (list $ component). */}}
{{- define "moorage.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "moorage.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "moorage.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- define "moorage.replicated" -}}
{{- if eq .Values.mode "replicated" }}true{{ end -}}
{{- end -}}

{{- define "moorage.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end -}}
{{- end -}}

{{- define "moorage.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "moorage.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Seconds that a pod gets to end: draining, running downloads, and a reserve. */}}
{{- define "moorage.graceS" -}}
{{- $drain := dig "MOORAGE_DRAIN_S" 5 .Values.settings -}}
{{- $shutdown := dig "MOORAGE_SHUTDOWN_S" 30 .Values.settings -}}
{{- add (int $drain) (int $shutdown) 15 -}}
{{- end -}}

{{/* The settings that are no secrets, as a YAML table from variable to text. */}}
{{- define "moorage.settings" -}}
{{- $own := dict
  "MOORAGE_HOST" "0.0.0.0"
  "MOORAGE_PORT" "8080"
  "MOORAGE_DATA_DIR" "/data/moorage"
  "MOORAGE_LOG_FORMAT" "json"
  "MOORAGE_WORKERS" (.Values.workers | toString)
  "MOORAGE_METRICS__PORT" (.Values.metrics.port | toString) -}}
{{- with .Values.publicUrl }}{{ $_ := set $own "MOORAGE_PUBLIC_URL" . }}{{ end -}}
{{- with .Values.gateways }}{{ $_ := set $own "MOORAGE_NETWORK__GATEWAYS" (toJson .) }}{{ end -}}
{{- if .Values.tls.existingSecret -}}
{{- $_ := set $own "MOORAGE_TLS__CERT_FILE" "/etc/moorage/tls/tls.crt" -}}
{{- $_ := set $own "MOORAGE_TLS__KEY_FILE" "/etc/moorage/tls/tls.key" -}}
{{- if .Values.tls.clientCaSecret }}{{ $_ := set $own "MOORAGE_TLS__CLIENT_CA_FILE" "/etc/moorage/client-ca/ca.crt" }}{{ end -}}
{{- end -}}
{{- if include "moorage.replicated" . -}}
{{- $_ := set $own "MOORAGE_STORAGE__URL" .Values.storage.url -}}
{{- $_ := set $own "MOORAGE_STORAGE__CACHE_BYTES" (printf "%d" (div (mul (int64 .Values.cache.sizeGiB) 1073741824 9) 10)) -}}
{{- with .Values.storage.s3.endpoint }}{{ $_ := set $own "MOORAGE_STORAGE__S3__ENDPOINT" . }}{{ end -}}
{{- with .Values.storage.s3.region }}{{ $_ := set $own "MOORAGE_STORAGE__S3__REGION" . }}{{ end -}}
{{- if .Values.storage.redirect }}{{ $_ := set $own "MOORAGE_STORAGE__REDIRECT" "true" }}{{ end -}}
{{- end -}}
{{- range $name, $value := .Values.settings -}}
{{- if kindIs "float64" $value -}}
{{- $_ := set $own $name (ternary (printf "%d" (int64 $value)) (toString $value) (eq (floor $value) $value)) -}}
{{- else if or (kindIs "slice" $value) (kindIs "map" $value) -}}
{{- $_ := set $own $name (toJson $value) -}}
{{- else -}}
{{- $_ := set $own $name (toString $value) -}}
{{- end -}}
{{- end -}}
{{- toYaml $own -}}
{{- end -}}

{{/* One variable from a Secret: (list $ variable value-of-secrets optional). */}}
{{- define "moorage.secretVariable" -}}
{{- $root := index . 0 -}}
{{- $from := index . 2 -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ default $root.Values.existingSecret $from.name }}
      key: {{ $from.key }}
      {{- if index . 3 }}
      optional: true
      {{- end }}
{{- end -}}

{{/* The variables that come from Secrets. */}}
{{- define "moorage.secretVariables" -}}
{{- $secrets := .Values.secrets -}}
{{- if include "moorage.replicated" . }}
{{ include "moorage.secretVariable" (list . "MOORAGE_DATABASE_URL" $secrets.databaseUrl false) }}
{{ include "moorage.secretVariable" (list . "MOORAGE_SECRETS_KEY" $secrets.secretsKey false) }}
{{ include "moorage.secretVariable" (list . "MOORAGE_SECRETS_KEY_BEFORE" $secrets.secretsKeyBefore true) }}
{{- if not .Values.storage.s3.ambientIdentity }}
{{ include "moorage.secretVariable" (list . "MOORAGE_STORAGE__S3__ACCESS_KEY" $secrets.s3AccessKey false) }}
{{ include "moorage.secretVariable" (list . "MOORAGE_STORAGE__S3__SECRET_KEY" $secrets.s3SecretKey false) }}
{{- end }}
{{- else if or .Values.existingSecret $secrets.secretsKey.name }}
{{ include "moorage.secretVariable" (list . "MOORAGE_SECRETS_KEY" $secrets.secretsKey true) }}
{{ include "moorage.secretVariable" (list . "MOORAGE_SECRETS_KEY_BEFORE" $secrets.secretsKeyBefore true) }}
{{- end }}
{{- end -}}

{{/* What the server and a migration have in common below a pod's spec. */}}
{{- define "moorage.podDefaults" -}}
automountServiceAccountToken: {{ and .Values.storage.s3.ambientIdentity (eq .Values.mode "replicated") }}
# Else Kubernetes sets MOORAGE_PORT for a Service named moorage.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext: {{ toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Settings that come from other values: setting and the value to use. */}}
{{- define "moorage.elsewhere" -}}
MOORAGE_DATA_DIR: persistence or cache
MOORAGE_HOST: service
MOORAGE_PORT: service.port
MOORAGE_WORKERS: workers
MOORAGE_PUBLIC_URL: publicUrl
MOORAGE_NETWORK__GATEWAYS: gateways
MOORAGE_METRICS__PORT: metrics.port
MOORAGE_METRICS__HOST: metrics.port
MOORAGE_STORAGE__URL: storage.url
MOORAGE_STORAGE__CACHE_BYTES: cache.sizeGiB
MOORAGE_STORAGE__REDIRECT: storage.redirect
MOORAGE_STORAGE__S3__ENDPOINT: storage.s3.endpoint
MOORAGE_STORAGE__S3__REGION: storage.s3.region
MOORAGE_TLS__CERT_FILE: tls.existingSecret
MOORAGE_TLS__KEY_FILE: tls.existingSecret
MOORAGE_TLS__CLIENT_CA_FILE: tls.clientCaSecret
{{- end -}}

{{/* Settings that are secrets: setting and its place below the value secrets. */}}
{{- define "moorage.secretSettings" -}}
MOORAGE_DATABASE_URL: databaseUrl
MOORAGE_SECRETS_KEY: secretsKey
MOORAGE_SECRETS_KEY_BEFORE: secretsKeyBefore
MOORAGE_STORAGE__S3__ACCESS_KEY: s3AccessKey
MOORAGE_STORAGE__S3__SECRET_KEY: s3SecretKey
{{- end -}}

{{/* Values that contradict each other; each message says what to do. */}}
{{- define "moorage.validate" -}}
{{- $secrets := .Values.secrets -}}
{{- $elsewhere := include "moorage.elsewhere" . | fromYaml -}}
{{- $secret := include "moorage.secretSettings" . | fromYaml -}}
{{- range $name, $_ := .Values.settings -}}
{{- with get $elsewhere $name -}}
{{- fail (printf "\n\nsettings.%s: use the value %s instead\n" $name .) -}}
{{- end -}}
{{- with get $secret $name -}}
{{- fail (printf "\n\nsettings.%s is a secret, and values are kept in the release's history: put it into the Secret that existingSecret names, under the key %s\n" $name (get $secrets .).key) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if and (hasKey $secret .name) (hasKey . "value") -}}
{{- fail (printf "\n\nextraEnv: %s is a secret, and values are kept in the release's history: use valueFrom.secretKeyRef\n" .name) -}}
{{- end -}}
{{- end -}}
{{- if include "moorage.replicated" . -}}
{{- if not .Values.storage.url -}}
{{- fail "\n\nmode replicated needs a bucket: set storage.url to \"s3://bucket/prefix\"\n" -}}
{{- end -}}
{{- $needed := dict "databaseUrl" $secrets.databaseUrl "secretsKey" $secrets.secretsKey -}}
{{- if not .Values.storage.s3.ambientIdentity -}}
{{- $_ := set $needed "s3AccessKey" $secrets.s3AccessKey -}}
{{- $_ := set $needed "s3SecretKey" $secrets.s3SecretKey -}}
{{- end -}}
{{- range $name, $from := $needed -}}
{{- if not (or $from.name $.Values.existingSecret) -}}
{{- fail (printf "\n\nmode replicated needs a Secret with the key %s: make one, and set existingSecret to its name (or secrets.%s.name)\n" $from.key $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail "\n\nautoscaling.maxReplicas is less than autoscaling.minReplicas\n" -}}
{{- end -}}
{{- else -}}
{{- if .Values.storage.url -}}
{{- fail "\n\nstorage.url is for mode replicated; with mode single all is on the volume of persistence: set mode: replicated, or leave storage.url empty\n" -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "\n\nmode single is one pod, since SQLite is on its volume: set mode: replicated, or autoscaling.enabled: false\n" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.clientCaSecret (not .Values.tls.existingSecret) -}}
{{- fail "\n\ntls.clientCaSecret needs tls.existingSecret: client certificates are asked for where TLS ends\n" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "\n\ningress.enabled needs ingress.host, the name that clients use\n" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "\n\nhttpRoute.enabled needs httpRoute.parentRefs, the Gateway: [{name: gateway, namespace: networking}]\n" -}}
{{- end -}}
{{- end -}}
