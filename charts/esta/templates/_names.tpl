{{/* Names and labels. A full name has at most 36 characters: a pod of a JobSet adds up to 27. */}}
{{- define "esta.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component: the same for ever. */}}
{{- define "esta.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object; pods carry the selector alone, so that a new version of the chart starts no worker again. */}}
{{- define "esta.labels" -}}
{{- $root := index . 0 -}}
{{ include "esta.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: esta
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* metadata of an object: (root, component, name, extra labels, extra annotations) */}}
{{- define "esta.metadata" -}}
{{- $root := index . 0 -}}
{{- $labels := merge (include "esta.labels" (list $root (index . 1)) | fromYaml) (deepCopy (index . 3)) $root.Values.commonLabels -}}
{{- $annotations := merge (deepCopy (index . 4)) $root.Values.commonAnnotations -}}
name: {{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* image: (root, image values, default tag) */}}
{{- define "esta.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := $image.repository -}}
{{- with $root.Values.image.registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" .) $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default (index . 2) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "esta.coordinator.image" -}}
{{- include "esta.image" (list . .Values.coordinator.image .Chart.AppVersion) -}}
{{- end -}}

{{- define "esta.workers.image" -}}
{{- $kind := ternary "cuda" "cpu" (gt (int .Values.workers.gpu.count) 0) -}}
{{- include "esta.image" (list . .Values.workers.image (printf "%s-%s" .Chart.AppVersion $kind)) -}}
{{- end -}}

{{- define "esta.coordinator.account" -}}
{{- default (ternary (printf "%s-coordinator" (include "esta.fullname" .)) "default" .Values.coordinator.serviceAccount.create) .Values.coordinator.serviceAccount.name -}}
{{- end -}}

{{- define "esta.workers.account" -}}
{{- default (ternary (printf "%s-worker" (include "esta.fullname" .)) "default" .Values.workers.serviceAccount.create) .Values.workers.serviceAccount.name -}}
{{- end -}}

{{- define "esta.viewer.account" -}}
{{- printf "%s-viewer" (include "esta.fullname" .) -}}
{{- end -}}

{{- define "esta.scheme" -}}
{{- ternary "https" "http" .Values.tls.enabled -}}
{{- end -}}

{{/* Host of the Service that every client dials. */}}
{{- define "esta.host" -}}
{{- printf "%s.%s.svc.%s" (include "esta.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{- define "esta.url" -}}
{{- printf "%s://%s:7700" (include "esta.scheme" .) (include "esta.host" .) -}}
{{- end -}}

{{- define "esta.coordinators.domain" -}}
{{- printf "%s-coordinators.%s.svc.%s" (include "esta.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}
