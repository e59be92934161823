{{/* The job and its three hashes. Everything here is worked out on parsed values and their JSON, so that comments, order and the
version of Helm change no hash. */}}

{{/* Where models, data or checkpoints are: (root, kind) */}}
{{- define "esta.place" -}}
{{- $place := index (index . 0).Values (index . 1) -}}
{{- default $place.mountPath $place.s3 | trimSuffix "/" -}}
{{- end -}}

{{/* The job as JSON, with its name and its places. */}}
{{- define "esta.job" -}}
{{- $root := . -}}
{{- $job := deepCopy (default dict .Values.job) -}}
{{- if .Values.jobFile -}}{{- $job = fromYaml .Values.jobFile -}}{{- end -}}
{{- $text := toJson (merge $job (dict "name" (include "esta.fullname" .))) -}}
{{- range $kind := list "models" "data" "checkpoints" -}}
{{- $text = $text | replace (printf "$(%s)" $kind) (include "esta.place" (list $root $kind)) -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* Hash of a job and of what else makes a run another one: (root, job) */}}
{{- define "esta.hash" -}}
{{- $root := index . 0 -}}
{{- $store := include "esta.store.identity" $root -}}
{{- dict "job" (index . 1) "files" (default dict $root.Values.jobFiles) "attempt" (int $root.Values.run.attempt) "store" $store | toJson | sha256sum | trunc 10 -}}
{{- end -}}

{{/* What workers hold a coordinator to: the job without its time-outs, and where its record is. Another one wants other workers. */}}
{{- define "esta.identity" -}}
{{- include "esta.hash" (list . (unset (include "esta.job" . | fromJson) "timeouts")) -}}
{{- end -}}

{{/* What a record belongs to: the job without the keys that no recorded number depends on, which may change in the middle of a
run (coordinator/src/store/sameness.rs). `recipe` stays: in a file it decides what other keys are. */}}
{{- define "esta.harmless" -}}
palette eval data.eval data.validation data.loader_threads train.save_steps train.save_total_limit train.logging_steps timeouts
{{- end -}}

{{- define "esta.run" -}}
{{- $job := include "esta.job" . | fromJson -}}
{{- range $key := include "esta.harmless" . | splitList " " -}}
{{- $parts := splitList "." $key -}}
{{- if eq (len $parts) 1 -}}
{{- $_ := unset $job $key -}}
{{- else if kindIs "map" (get $job (first $parts)) -}}
{{- $_ := unset (get $job (first $parts)) (last $parts) -}}
{{- end -}}
{{- end -}}
{{- printf "%s-%s" (get $job "name") (include "esta.hash" (list . $job)) -}}
{{- end -}}

{{/* The files of the job's ConfigMap. */}}
{{- define "esta.job.files" -}}
{{- $folder := printf "%s/%s" (include "esta.place" (list . "checkpoints")) (include "esta.run" .) -}}
{{- $job := merge (dict "output_dir" $folder) (include "esta.job" . | fromJson) -}}
{{- merge (dict "job.yaml" (toYaml $job)) (default dict .Values.jobFiles) | toYaml -}}
{{- end -}}

{{- define "esta.job.configmap" -}}
{{- $files := include "esta.job.files" . | fromYaml -}}
{{- $job := get $files "job.yaml" | fromYaml -}}
{{- $content := merge (dict "job.yaml" $job) $files -}}
{{- printf "%s-job-%s" (include "esta.fullname" .) ($content | toJson | sha256sum | trunc 10) -}}
{{- end -}}

{{/* The store among all others. Members of an etcd come and go, and it stays the same. */}}
{{- define "esta.store.identity" -}}
{{- if eq .Values.store.kind "etcd" -}}
etcd:{{ include "esta.store.prefix" . }}
{{- else -}}
redb:{{ include "esta.store.claim" . }}
{{- end -}}
{{- end -}}

{{- define "esta.store.prefix" -}}
{{- default (printf "esta/%s/%s" .Release.Namespace (include "esta.fullname" .)) (trimAll "/" .Values.store.etcd.prefix) -}}
{{- end -}}

{{- define "esta.store.claim" -}}
{{- default (printf "%s-record" (include "esta.fullname" .)) .Values.store.redb.existingClaim -}}
{{- end -}}

{{/* Address of the record. */}}
{{- define "esta.store" -}}
{{- $run := include "esta.run" . -}}
{{- if eq .Values.store.kind "etcd" -}}
{{- $etcd := .Values.store.etcd -}}
{{- printf "%s://%s/%s/%s" (ternary "etcds" "etcd" $etcd.tls.enabled) (join "," $etcd.endpoints) (include "esta.store.prefix" .) $run -}}
{{- else -}}
{{- printf "redb:/var/lib/esta/%s.redb" $run -}}
{{- end -}}
{{- end -}}
