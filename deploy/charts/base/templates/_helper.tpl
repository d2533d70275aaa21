{{- define "base.labels" -}}
app.kubernetes.io/name: istio-base
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: navarch
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
release: {{ .Release.Name }}
{{- end -}}
{{- define "base.cluster" -}}
{{- if has .Values.global.resourceScope (list "all" "cluster") }}yes{{ end -}}
{{- end -}}
{{- define "base.namespaced" -}}
{{- if has .Values.global.resourceScope (list "all" "namespace") }}yes{{ end -}}
{{- end -}}
