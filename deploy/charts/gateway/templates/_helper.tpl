{{- define "gateway.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end -}}
{{- define "gateway.account" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "gateway.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}
{{- /* Gateway resources find their pods by `istio`: the name without its prefix, as in Istio. */ -}}
{{- define "gateway.selector" -}}
app: {{ (.Values.labels.app | default (include "gateway.name" .)) | quote }}
istio: {{ (.Values.labels.istio | default (include "gateway.name" . | trimPrefix "istio-")) | quote }}
{{- end -}}
{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: navarch
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.networkGateway }}
topology.istio.io/network: {{ . | quote }}
{{- end }}
{{- with omit .Values.labels "app" "istio" }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- define "gateway.podLabels" -}}
sidecar.istio.io/inject: "true"
{{- with .Values.revision }}
istio.io/rev: {{ . | quote }}
{{- end }}
{{- with .Values.service.selectorLabels }}
{{ toYaml . }}
{{- end }}
service.istio.io/canonical-name: {{ include "gateway.name" . | trunc 63 | quote }}
service.istio.io/canonical-revision: {{ get .Values.labels "service.istio.io/canonical-revision" | default "latest" | quote }}
{{- end -}}
{{- define "gateway.metadata" -}}
name: {{ include "gateway.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "gateway.labels" . | nindent 2 }}
{{- with .Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
