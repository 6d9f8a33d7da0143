{{/* The name of the objects. Short enough for what a StatefulSet adds to the names of its pods and their labels. */}}
{{- define "rotator.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- .Values.fullnameOverride | default $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* What never changes: a StatefulSet's selector and claims cannot. */}}
{{- define "rotator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rotator.labels" -}}
{{ include "rotator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "rotator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "rotator.fullname" .) "default") -}}
{{- end -}}

{{- define "rotator.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The API's port: the configuration's, or rotator's default. */}}
{{- define "rotator.port" -}}
{{- get (.Values.config.server | default dict) "port" | default 8700 | int -}}
{{- end -}}

{{/* The metrics' own port; empty where there is none. */}}
{{- define "rotator.metricsPort" -}}
{{- $own := .Values.metrics.enabled | ternary .Values.metrics.port "" -}}
{{- get (.Values.config.metrics | default dict) "port" | default $own -}}
{{- end -}}

{{/* Whether the process reads the service account's token: for the cluster's API, or to sign in somewhere with it. */}}
{{- define "rotator.mountsToken" -}}
{{- $needed := eq .Values.serviceAccount.token "always" -}}
{{- if eq .Values.serviceAccount.token "auto" -}}
{{- range .Values.config.targets }}{{ if and (eq .type "kubernetes") (not .kubeconfig) }}{{ $needed = true }}{{ end }}{{ end -}}
{{- $default := "/var/run/secrets/kubernetes.io/serviceaccount/token" -}}
{{- range .Values.config.stores -}}
{{- $auth := .auth | default dict -}}
{{- $file := get $auth "jwt_file" | default (eq (get $auth "type") "kubernetes" | ternary $default "") -}}
{{- if hasPrefix (dir $default) $file }}{{ $needed = true }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $needed -}}
{{- end -}}

{{/* As the restricted Pod Security Standard wants it. The state folder is rotator's alone (0700): its volume keeps its modes after the first mount. */}}
{{- define "rotator.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.uid }}
runAsUser: {{ int . }}
runAsGroup: {{ int . }}
fsGroup: {{ int . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "rotator.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What one Kubernetes target must be allowed to do, and no more: what `rotator check --live` asks for, rule by rule. */}}
{{- define "rotator.rules" -}}
{{- $bySelector := kindIs "map" .namespaces -}}
{{- $watches := gt (int (hasKey . "watches" | ternary .watches 20)) 0 -}}
{{- $verbs := list "get" "create" "patch" -}}
{{- if and $watches (not $bySelector) }}{{ $verbs = concat $verbs (list "list" "watch") }}{{ end -}}
{{- if eq (.on_removal | default "keep") "delete" }}{{ $verbs = append $verbs "delete" }}{{ end -}}
{{- $restart := .restart | default "auto" -}}
{{- if $bySelector }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: {{ $watches | ternary "[list, watch]" "[list]" }}
{{- if $watches }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch]
{{- end }}
{{- end }}
- apiGroups: [""]
  resources: [secrets]
  verbs: {{ toJson $verbs }}
  resourceNames: [{{ .name | quote }}]
{{- if ne (toString $restart) "none" }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- if kindIs "slice" $restart }}
{{- range $restart }}
{{- $parts := splitn "/" 2 . }}
- apiGroups: [apps]
  resources: [{{ printf "%ss" $parts._0 | quote }}]
  verbs: [get, patch]
  resourceNames: [{{ $parts._1 | quote }}]
{{- end }}
{{- else }}
{{- range list "deployments" "statefulsets" "daemonsets" }}
- apiGroups: [apps]
  resources: [{{ . }}]
  verbs: [list, patch]
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "rotator.ensure" -}}
{{- if regexMatch "(rk|sk|ak|pk)_[a-z][a-z0-9]*_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{12,}" (toJson .Values) -}}
{{- fail "the values hold a full Millimetric key: take it out, treat it as leaked, and keep keys in a store" -}}
{{- end -}}
{{- with get (.Values.config.server | default dict) "bind" -}}
{{- if or (hasPrefix "127." .) (has . (list "localhost" "::1")) -}}
{{- fail (printf "config.server.bind: %s cannot be reached by the pod's probes: leave it out" .) -}}
{{- end -}}
{{- end -}}
{{- if eq (include "rotator.port" .) (include "rotator.metricsPort" . | toString) -}}
{{- fail (printf "metrics.port: %s is the API's: give the metrics another one" (include "rotator.port" .)) -}}
{{- end -}}
{{- if and .Values.config.credentials (not .Values.persistence.enabled) -}}
{{- $stores := .Values.config.stores | default (dict "embedded" (dict "type" "embedded")) -}}
{{- range $name, $store := $stores -}}
{{- if eq $store.type "embedded" -}}
{{- fail (printf "persistence.enabled: the keys in the embedded store %s would be lost with the pod: turn it on, or use another store" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host: name the host under which the API is reached" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not (include "rotator.metricsPort" .)) -}}
{{- fail "metrics.serviceMonitor.enabled: there is no port to scrape without a token: turn metrics.enabled on" -}}
{{- end -}}
{{- range $name, $target := .Values.config.targets -}}
{{- if eq $target.type "kubernetes" -}}
{{- range list "namespaces" "name" -}}
{{- if not (get $target .) }}{{ fail (printf "config.targets.%s.%s is missing: a Kubernetes target needs it" $name .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
