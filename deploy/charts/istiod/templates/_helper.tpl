{{- define "istiod.suffix" -}}
{{- with .Values.revision }}-{{ . }}{{ end -}}
{{- end -}}
{{- define "istiod.name" -}}
istiod{{ include "istiod.suffix" . }}
{{- end -}}
{{- /* Names of cluster-wide objects say the namespace too where it is not the usual one. */ -}}
{{- define "istiod.injector" -}}
istio-sidecar-injector{{ include "istiod.suffix" . }}{{ if ne .Release.Namespace "istio-system" }}-{{ .Release.Namespace }}{{ end }}
{{- end -}}
{{- define "istiod.validator" -}}
istio-validator{{ include "istiod.suffix" . }}-{{ .Values.global.istioNamespace }}
{{- end -}}
{{- define "istiod.revision" -}}
{{ .Values.revision | default "default" }}
{{- end -}}
{{- define "istiod.labels" -}}
app: istiod
istio.io/rev: {{ include "istiod.revision" . | quote }}
operator.istio.io/component: Pilot
release: {{ .Release.Name }}
app.kubernetes.io/name: istiod
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: navarch
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
{{- /* A Deployment's selector cannot be changed: these are Istio's, so that an installation of theirs can be taken over. */ -}}
{{- define "istiod.selector" -}}
app: istiod
{{- if .Values.revision }}
istio.io/rev: {{ .Values.revision | quote }}
{{- else }}
istio: pilot
{{- end }}
{{- end -}}
{{- define "istiod.cluster" -}}
{{- if has .Values.global.resourceScope (list "all" "cluster") }}yes{{ end -}}
{{- end -}}
{{- define "istiod.namespaced" -}}
{{- if has .Values.global.resourceScope (list "all" "namespace") }}yes{{ end -}}
{{- end -}}
{{- /* Whether the control plane itself runs here. */ -}}
{{- define "istiod.local" -}}
{{- if and (include "istiod.namespaced" .) (not .Values.istiodRemote.enabled) }}yes{{ end -}}
{{- end -}}
{{- define "istiod.tag" -}}
istio-revision-tag-{{ .tag }}{{ if ne .namespace "istio-system" }}-{{ .namespace }}{{ end }}
{{- end -}}
