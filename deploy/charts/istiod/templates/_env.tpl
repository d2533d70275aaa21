{{- /* The container's environment. Of a name that is also in `env`, the user's value counts. */ -}}
{{- define "istiod.env" -}}
{{- $v := .v -}}
{{- $own := dict "REVISION" .revision "PILOT_CERT_PROVIDER" $v.global.pilotCertProvider "KUBECONFIG" "/var/run/secrets/remote/config" "PILOT_TRACE_SAMPLING" (toString $v.traceSampling) "PILOT_ENABLE_ANALYSIS" (toString $v.global.istiod.enableAnalysis) "CLUSTER_ID" ($v.global.multiCluster.clusterName | default "Kubernetes") "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER" (toString $v.rbac.gatewayDeployment) -}}
{{- if $v.global.externalIstiod }}{{ $own = mergeOverwrite $own (dict "EXTERNAL_ISTIOD" "true") }}{{ end -}}
{{- if $v.global.operatorManageWebhooks }}{{ $own = mergeOverwrite $own (dict "INJECTION_WEBHOOK_CONFIG_NAME" "" "VALIDATION_WEBHOOK_CONFIG_NAME" "") }}{{ end -}}
{{- if not $v.global.configValidation }}{{ $own = mergeOverwrite $own (dict "VALIDATION_WEBHOOK_CONFIG_NAME" "") }}{{ end -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: metadata.namespace
- name: SERVICE_ACCOUNT
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: spec.serviceAccountName
{{- range $name, $value := $own }}
{{- if not (hasKey $v.env $name) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := $v.env }}
- name: {{ $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- with $v.envVarFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}
