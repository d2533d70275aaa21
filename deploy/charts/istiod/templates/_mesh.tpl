{{- /* MeshConfig: what follows from the other values, then the user's meshConfig over it. */ -}}
{{- define "istiod.mesh" -}}
{{- $v := .v -}}
{{- $proxy := dict "discoveryAddress" ($v.global.remotePilotAddress | default (printf "%s.%s.svc:15012" .name .namespace)) -}}
{{- if ne $v.global.proxy.tracer "none" }}{{ $proxy = mergeOverwrite $proxy (dict "tracing" (dict $v.global.proxy.tracer (dict))) }}{{ end -}}
{{- with $v.global.meshID }}{{ $proxy = mergeOverwrite $proxy (dict "meshId" .) }}{{ end -}}
{{- $mesh := dict "rootNamespace" .namespace "trustDomain" "cluster.local" "enablePrometheusMerge" true "defaultConfig" $proxy -}}
{{- if and $v.telemetry.enabled $v.telemetry.v2.enabled $v.telemetry.v2.prometheus.enabled -}}
{{- $mesh = mergeOverwrite $mesh (dict "defaultProviders" (dict "metrics" (list "prometheus"))) -}}
{{- end -}}
{{ mergeOverwrite $mesh ($v.meshConfig | default dict) | toYaml }}
{{- end -}}
