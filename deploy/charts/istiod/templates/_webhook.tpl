{{- /* Where the injector is, and everything that all its webhooks have in common. */ -}}
{{- define "istiod.webhook" -}}
{{- $v := .root.Values -}}
- name: {{ .name }}.sidecar-injector.istio.io
  clientConfig:
    {{- if $v.istiodRemote.injectionURL }}
    url: {{ $v.istiodRemote.injectionURL | quote }}
    {{- else }}
    service:
      name: {{ include "istiod.name" .root }}
      namespace: {{ .root.Release.Namespace }}
      path: {{ $v.istiodRemote.injectionPath | quote }}
      port: 443
    {{- end }}
    {{- with $v.istiodRemote.injectionCABundle }}
    caBundle: {{ . | quote }}
    {{- end }}
  sideEffects: None
  rules:
  - operations: [CREATE]
    apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    scope: Namespaced
  # A pod without the sidecar that it should have would be outside of every policy.
  failurePolicy: Fail
  reinvocationPolicy: {{ $v.sidecarInjectorWebhook.reinvocationPolicy | quote }}
  admissionReviewVersions: [v1]
  matchPolicy: Equivalent
  timeoutSeconds: 10
{{- end -}}
{{- /* Never asked for: namespaces that must come up without the injector. Pods of the control plane's own namespace
       are injected only if they ask for it themselves. */ -}}
{{- define "istiod.never" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, kube-public, kube-node-lease]
{{- end -}}
{{- define "istiod.neverByNamespace" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
  - kube-system
  - kube-public
  - kube-node-lease
  - local-path-storage
  {{- range $name := uniq (list .Release.Namespace .Values.global.istioNamespace) }}
  - {{ $name }}
  {{- end }}
{{- end -}}
{{- define "istiod.webhooks" }}
{{ include "istiod.webhook" (dict "root" .root "name" "rev.namespace") }}
  namespaceSelector:
    matchExpressions:
    - key: istio.io/rev
      operator: In
      values: [{{ .value | quote }}]
    - key: istio-injection
      operator: DoesNotExist
    {{- include "istiod.neverByNamespace" .root | nindent 4 }}
  objectSelector:
    matchExpressions:
    - key: sidecar.istio.io/inject
      operator: NotIn
      values: ["false"]
{{ include "istiod.webhook" (dict "root" .root "name" "rev.object") }}
  namespaceSelector:
    matchExpressions:
    - key: istio.io/rev
      operator: DoesNotExist
    - key: istio-injection
      operator: DoesNotExist
    {{- include "istiod.never" .root | nindent 4 }}
  objectSelector:
    matchExpressions:
    - key: sidecar.istio.io/inject
      operator: NotIn
      values: ["false"]
    - key: istio.io/rev
      operator: In
      values: [{{ .value | quote }}]
{{- if .isDefault }}
{{ include "istiod.webhook" (dict "root" .root "name" "namespace") }}
  namespaceSelector:
    matchExpressions:
    - key: istio-injection
      operator: In
      values: [enabled]
    {{- include "istiod.neverByNamespace" .root | nindent 4 }}
  objectSelector:
    matchExpressions:
    - key: sidecar.istio.io/inject
      operator: NotIn
      values: ["false"]
{{ include "istiod.webhook" (dict "root" .root "name" "object") }}
  namespaceSelector:
    matchExpressions:
    - key: istio-injection
      operator: DoesNotExist
    - key: istio.io/rev
      operator: DoesNotExist
    {{- include "istiod.never" .root | nindent 4 }}
  objectSelector:
    matchExpressions:
    - key: sidecar.istio.io/inject
      operator: In
      values: ["true"]
    - key: istio.io/rev
      operator: DoesNotExist
{{- if .root.Values.sidecarInjectorWebhook.enableNamespacesByDefault }}
{{ include "istiod.webhook" (dict "root" .root "name" "auto") }}
  namespaceSelector:
    matchExpressions:
    - key: istio-injection
      operator: DoesNotExist
    - key: istio.io/rev
      operator: DoesNotExist
    {{- include "istiod.neverByNamespace" .root | nindent 4 }}
  objectSelector:
    matchExpressions:
    - key: sidecar.istio.io/inject
      operator: DoesNotExist
    - key: istio.io/rev
      operator: DoesNotExist
{{- end }}
{{- end }}
{{- end -}}
