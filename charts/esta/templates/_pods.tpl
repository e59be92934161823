{{/* Pieces that pods of coordinators, workers and the test share. */}}

{{/* A probe: (path, settings) */}}
{{- define "esta.probe" -}}
{{- toYaml (merge (dict "httpGet" (dict "path" (index . 0) "port" "http")) (index . 1)) -}}
{{- end -}}

{{/* Variables of logs, traces and metrics: (root, service name) */}}
{{- define "esta.env.telemetry" -}}
{{- $root := index . 0 -}}
- name: RUST_LOG
  value: {{ $root.Values.logLevel | quote }}
{{- with $root.Values.telemetry }}
{{- if .otlpEndpoint }}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_SERVICE_NAME
  value: {{ index $ 1 }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otlpEndpoint | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .samplingRatio | toString | quote }}
- name: OTEL_METRIC_EXPORT_INTERVAL
  value: {{ .metricsIntervalMs | int | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ include "esta.otel.attributes" $root | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "esta.otel.attributes" -}}
{{- $all := dict "service.namespace" (include "esta.fullname" .) "k8s.namespace.name" .Release.Namespace "k8s.pod.name" "$(POD_NAME)" "k8s.node.name" "$(NODE_NAME)" -}}
{{- $all = merge (deepCopy .Values.telemetry.resourceAttributes) $all -}}
{{- $pairs := list -}}
{{- range $key, $value := $all -}}{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{/* Whether anything lies in object storage. */}}
{{- define "esta.uses.s3" -}}
{{- if or .Values.checkpoints.s3 .Values.models.s3 .Values.data.s3 .Values.s3.existingSecret .Values.s3.endpoint (contains "s3://" (include "esta.job" .)) -}}true{{- end -}}
{{- end -}}

{{- define "esta.env.s3" -}}
{{- with .Values.s3.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- if hasPrefix "http://" . }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- end }}
{{- with .Values.s3.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- if and (include "esta.uses.s3" .) .Values.s3.virtualHosted }}
- name: AWS_VIRTUAL_HOSTED_STYLE_REQUEST
  value: "true"
{{- end }}
{{- end -}}

{{- define "esta.envFrom" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.s3.existingSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- with index . 1 }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What a client of a coordinator shows and believes: variables. (root, has token) */}}
{{- define "esta.env.client" -}}
{{- $root := index . 0 -}}
{{- $tls := $root.Values.tls -}}
- name: ESTA_COORDINATOR
  value: {{ include "esta.url" $root }}
{{- if $tls.enabled }}
- name: ESTA_TLS_CA
  value: /etc/esta/tls/ca.crt
{{- if $tls.mutual }}
- name: ESTA_TLS_CERT
  value: /etc/esta/tls/tls.crt
- name: ESTA_TLS_KEY
  value: /etc/esta/tls/tls.key
{{- end }}
{{- end }}
{{- if index . 1 }}
- name: ESTA_TOKEN_FILE
  value: /etc/esta/token/token
{{- if not $tls.enabled }}
- name: ESTA_PLAIN_TEXT
  value: "true"
{{- end }}
{{- end }}
{{- end -}}

{{- define "esta.tls.coordinatorSecret" -}}
{{- if .Values.tls.certManager.enabled -}}{{ include "esta.fullname" . }}-coordinator-tls{{- else -}}{{ .Values.tls.coordinatorSecret }}{{- end -}}
{{- end -}}

{{- define "esta.tls.workerSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{ include "esta.fullname" . }}-worker-tls
{{- else if .Values.tls.mutual -}}
{{ .Values.tls.workerSecret }}
{{- else -}}
{{ default .Values.tls.coordinatorSecret .Values.tls.workerSecret }}
{{- end -}}
{{- end -}}

{{/* Volumes of a client's certificates and token: (root, Secret with a token, its key) */}}
{{- define "esta.volumes.client" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.tls }}
{{- if .enabled }}
- name: tls
  secret:
    secretName: {{ include "esta.tls.workerSecret" $root }}
    defaultMode: 288
    {{- if not .mutual }}
    items: [{key: ca.crt, path: ca.crt}]
    {{- end }}
{{- end }}
{{- end }}
{{- with $root.Values.auth.serviceAccountTokens }}
{{- if .enabled }}
- name: token
  projected:
    defaultMode: 288
    sources:
      - serviceAccountToken:
          audience: {{ .audience | quote }}
          expirationSeconds: {{ int .expirationSeconds }}
          path: token
{{- else if index $ 1 }}
- name: token
  secret:
    secretName: {{ index $ 1 }}
    defaultMode: 288
    items: [{key: {{ index $ 2 }}, path: token}]
{{- end }}
{{- end }}
{{- end -}}

{{- define "esta.mounts.client" -}}
{{- if (index . 0).Values.tls.enabled }}
- {name: tls, mountPath: /etc/esta/tls, readOnly: true}
{{- end }}
{{- if index . 1 }}
- {name: token, mountPath: /etc/esta/token, readOnly: true}
{{- end }}
{{- end -}}

{{/* The claim of a place, or nothing where there is none: (root, kind) */}}
{{- define "esta.claim" -}}
{{- $root := index . 0 -}}
{{- $place := index $root.Values (index . 1) -}}
{{- if $place.claim.existing -}}
{{- $place.claim.existing -}}
{{- else if or (get $place.claim "create") (and (eq (index . 1) "checkpoints") (not $place.s3)) -}}
{{- printf "%s-%s" (include "esta.fullname" $root) (index . 1) -}}
{{- end -}}
{{- end -}}

{{/* Volumes of places: (root, kinds). One for each claim: a pod that has a claim twice may never start. */}}
{{- define "esta.volumes.places" -}}
{{- $root := index . 0 -}}
{{- $volumes := dict -}}
{{- range $kind := index . 1 -}}
{{- with include "esta.claim" (list $root $kind) -}}
{{- $known := default (dict "name" $kind "readOnly" true) (get $volumes .) -}}
{{- $writes := not (get (index $root.Values $kind) "readOnly") -}}
{{- $_ := set $volumes . (dict "name" $known.name "readOnly" (and $known.readOnly (not $writes))) -}}
{{- end -}}
{{- end -}}
{{- range $claim, $volume := $volumes }}
- name: {{ $volume.name }}
  persistentVolumeClaim:
    claimName: {{ $claim }}
    {{- if $volume.readOnly }}
    readOnly: true
    {{- end }}
{{- end }}
{{- end -}}

{{- define "esta.mounts.places" -}}
{{- $root := index . 0 -}}
{{- $names := dict -}}
{{- range $kind := index . 1 }}
{{- with include "esta.claim" (list $root $kind) }}
{{- $name := default $kind (get $names .) }}
{{- $_ := set $names . $name }}
{{- $place := index $root.Values $kind }}
- name: {{ $name }}
  mountPath: {{ $place.mountPath }}
  {{- with $place.claim.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
  {{- if get $place "readOnly" }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}
