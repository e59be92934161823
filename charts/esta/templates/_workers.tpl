{{/* The workers' pods, and what else of a Job cannot change once it is there. The hash of all of it is in the Job's name, so that an
upgrade makes a new Job wherever it cannot change the old one. Numbers that can change (parallelism, completions, suspend,
deadlines) are in workers.yaml. */}}

{{- define "esta.workers.labels" -}}
{{- $own := merge (include "esta.selector" (list . "worker") | fromYaml) (dict "esta/job" (include "esta.identity" .)) -}}
{{- toYaml (merge $own .Values.workers.podLabels) -}}
{{- end -}}

{{/* Workers of each pod, and of all. */}}
{{- define "esta.workers.each" -}}
{{- max 1 (int .Values.workers.gpu.count) -}}
{{- end -}}

{{- define "esta.workers.total" -}}
{{- mul (int .Values.workers.replicas) (include "esta.workers.each" .) -}}
{{- end -}}

{{/* Where a pod is asked: its only worker, or the program that starts several, and after that each of those. */}}
{{- define "esta.workers.ports" -}}
{{- $each := include "esta.workers.each" . | int -}}
- {name: http, containerPort: 7702}
{{- if gt $each 1 }}
{{- range $number := until $each }}
- {name: http-{{ $number }}, containerPort: {{ add 7703 $number }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* The ports where workers' metrics are. */}}
{{- define "esta.workers.scraped" -}}
{{- $each := include "esta.workers.each" . | int -}}
{{- if eq $each 1 }}["http"]{{ else -}}
{{- $names := list -}}
{{- range $number := until $each }}{{ $names = append $names (printf "http-%d" $number) }}{{ end -}}
{{- toJson $names -}}
{{- end -}}
{{- end -}}

{{- define "esta.workers.resources" -}}
{{- $devices := dict -}}
{{- with .Values.workers -}}
{{- if gt (int .gpu.count) 0 -}}{{- $_ := set $devices .gpu.resource (int .gpu.count) -}}{{- end -}}
{{- if .rdma.enabled -}}{{- $_ := set $devices .rdma.resource (int .rdma.count) -}}{{- end -}}
{{- $limits := merge (deepCopy $devices) (default dict .resources.limits) -}}
{{- $requests := merge (deepCopy $devices) (default dict .resources.requests) -}}
{{- $rest := omit .resources "limits" "requests" -}}
{{- toYaml (merge (dict "limits" $limits "requests" $requests) $rest) -}}
{{- end -}}
{{- end -}}

{{- define "esta.workers.tolerations" -}}
{{- with .Values.workers -}}
{{- $all := .tolerations -}}
{{- if and .gpu.tolerate (gt (int .gpu.count) 0) -}}
{{- $all = prepend $all (dict "key" .gpu.resource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- if $all }}{{ toYaml $all }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "esta.workers.affinity" -}}
{{- $affinity := deepCopy .Values.workers.affinity -}}
{{- $packing := .Values.workers.packing -}}
{{- if and (ne $packing.mode "none") $packing.topologyKeys -}}
{{- $selector := dict "matchLabels" (include "esta.selector" (list . "worker") | fromYaml) -}}
{{- $terms := list -}}
{{- $key := printf "%sDuringSchedulingIgnoredDuringExecution" $packing.mode -}}
{{- range $i, $topology := $packing.topologyKeys -}}
{{- $term := dict "topologyKey" $topology "labelSelector" $selector -}}
{{- if eq $packing.mode "preferred" -}}{{- $term = dict "weight" (max 1 (sub 100 (mul 30 $i))) "podAffinityTerm" $term -}}{{- end -}}
{{- $terms = append $terms $term -}}
{{- end -}}
{{- $near := get (default dict $affinity.podAffinity) $key -}}
{{- $affinity = mergeOverwrite $affinity (dict "podAffinity" (dict $key (concat (default list $near) $terms))) -}}
{{- end -}}
{{- if $affinity }}{{ toYaml $affinity }}{{ end -}}
{{- end -}}

{{- define "esta.workers.securityContext" -}}
{{- $context := deepCopy .Values.workers.securityContext -}}
{{- if .Values.workers.rdma.enabled -}}
{{- $context = merge (dict "capabilities" (merge (dict "add" (list "IPC_LOCK")) (default dict $context.capabilities))) (omit $context "capabilities") -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{/* Whether workers have a token to show. */}}
{{- define "esta.workers.token" -}}
{{- if or .Values.auth.serviceAccountTokens.enabled .Values.auth.tokens.workerSecret -}}true{{- end -}}
{{- end -}}

{{- define "esta.workers.template" -}}
{{- $values := .Values.workers -}}
{{- $places := list "checkpoints" "models" "data" -}}
{{- $token := eq (include "esta.workers.token" .) "true" -}}
metadata:
  labels:
    {{- include "esta.workers.labels" . | nindent 4 }}
  annotations:
    kubectl.kubernetes.io/default-container: worker
    {{- with $values.rdma.networks }}
    k8s.v1.cni.cncf.io/networks: {{ . | quote }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  restartPolicy: Never
  subdomain: {{ include "esta.fullname" . }}-workers
  serviceAccountName: {{ include "esta.workers.account" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int $values.terminationGracePeriodSeconds }}
  {{- if $values.network.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $values.schedulerName }}
  schedulerName: {{ . }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "esta.workers.tolerations" . }}
  tolerations:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with include "esta.workers.affinity" . }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "esta.workers.image" . | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      command: [esta-worker]
      args:
        - train
        - --device={{ ternary "cuda" "cpu" (gt (int $values.gpu.count) 0) }}
        {{- if gt (int $values.gpu.count) 1 }}
        - --processes={{ int $values.gpu.count }}
        {{- end }}
        - --reconnect-budget={{ int $values.reconnectSeconds }}
        {{- range $values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: ESTA_WORKER_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: ESTA_WORKER_NODE
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
        {{- if $values.network.glooInterface }}
        - name: GLOO_SOCKET_IFNAME
          value: {{ $values.network.glooInterface | quote }}
        {{- else }}
        - name: ESTA_WORKER_HOST
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        {{- end }}
        {{- with $values.network.ncclInterface }}
        - name: NCCL_SOCKET_IFNAME
          value: {{ . | quote }}
        {{- end }}
        {{- if and $values.rdma.enabled $values.rdma.hca }}
        - name: NCCL_IB_HCA
          value: {{ $values.rdma.hca | quote }}
        {{- end }}
        {{- range $name, $value := $values.network.nccl }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
        {{- if $values.http.enabled }}
        - name: ESTA_HTTP
          value: {{ printf "%s:7702" .Values.listenAddress | quote }}
        {{- end }}
        - name: ESTA_DRAINED_EXIT_CODE
          value: {{ int $values.drainedExitCode | quote }}
        {{- include "esta.env.client" (list . $token) | nindent 8 }}
        - name: HOME
          value: /tmp
        - name: ESTA_CACHE
          value: /cache
        - name: HF_HOME
          value: /cache/huggingface
        {{- include "esta.env.telemetry" (list . "esta-worker") | nindent 8 }}
        {{- with include "esta.env.s3" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with include "esta.envFrom" (list . $values.extraEnvFrom) | trim }}
      envFrom:
        {{- . | nindent 8 }}
      {{- end }}
      {{- if $values.http.enabled }}
      ports:
        {{- include "esta.workers.ports" . | nindent 8 }}
      startupProbe:
        {{- include "esta.probe" (list "/healthz" $values.probes.startup) | nindent 8 }}
      livenessProbe:
        {{- include "esta.probe" (list "/healthz" $values.probes.liveness) | nindent 8 }}
      readinessProbe:
        {{- include "esta.probe" (list "/readyz" $values.probes.readiness) | nindent 8 }}
      {{- end }}
      {{- with int $values.preStopSeconds }}
      lifecycle:
        preStop: {sleep: {seconds: {{ . }}}}
      {{- end }}
      resources:
        {{- include "esta.workers.resources" . | nindent 8 }}
      securityContext:
        {{- include "esta.workers.securityContext" . | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: cache, mountPath: /cache}
        - {name: shm, mountPath: /dev/shm}
        {{- with include "esta.mounts.client" (list . $token) | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with include "esta.mounts.places" (list . $places) | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 8Gi}
    - name: cache
      {{- if .Values.cache.existingClaim }}
      persistentVolumeClaim: {claimName: {{ .Values.cache.existingClaim }}}
      {{- else }}
      emptyDir: {sizeLimit: {{ .Values.cache.sizeLimit }}}
      {{- end }}
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ $values.shm.sizeLimit }}}
    {{- with include "esta.volumes.client" (list . .Values.auth.tokens.workerSecret .Values.auth.tokens.workerKey) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with include "esta.volumes.places" (list . $places) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Exit codes as Kubernetes takes them: in order, each once. */}}
{{- define "esta.codes" -}}
{{- $padded := list -}}
{{- range . -}}{{- $padded = append $padded (printf "%03d" (int .)) -}}{{- end -}}
{{- $codes := list -}}
{{- range $padded | uniq | sortAlpha -}}{{- $codes = append $codes (atoi .) -}}{{- end -}}
{{- toJson $codes -}}
{{- end -}}

{{/* What of a Job cannot change. */}}
{{- define "esta.workers.fixed" -}}
{{- $values := .Values.workers -}}
completionMode: Indexed
backoffLimitPerIndex: {{ int $values.retriesPerWorker }}
podReplacementPolicy: Failed
# In order: the first rule that fits decides.
podFailurePolicy:
  rules:
    # Preempted, drained or lost with its node: no failure of the worker.
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    # Told to leave before the run was complete.
    - action: Ignore
      onExitCodes: {containerName: worker, operator: In, values: [{{ int $values.drainedExitCode }}]}
    {{- with $values.finalExitCodes }}
    # A command line that never works.
    - action: FailJob
      onExitCodes: {containerName: worker, operator: In, values: {{ include "esta.codes" . }}}
    {{- end }}
    {{- with $values.finalIndexExitCodes }}
    # A worker that does not fit, reads no data or weights, or was outvoted: it does not help to start it again, and the others go on.
    # All of them once the run has failed.
    # Where that is so of every worker, every place is given up, and the Job fails at once.
    - action: FailIndex
      onExitCodes: {containerName: worker, operator: In, values: {{ include "esta.codes" . }}}
    {{- end }}
template:
  {{- include "esta.workers.template" . | nindent 2 }}
{{- end -}}

{{/* What of a JobSet cannot change beside its Jobs. */}}
{{- define "esta.jobset.fixed" -}}
network:
  enableDNSHostnames: true
  publishNotReadyAddresses: true
  subdomain: {{ include "esta.fullname" . }}-workers
successPolicy: {operator: All}
failurePolicy:
  maxRestarts: {{ int .Values.workers.jobSet.maxRestarts }}
  rules:
    # A command line that never works. A Job with places that were given up (FailedIndexes) fails once none of its workers runs; the set
    # then starts again, as after any other failure: elsewhere they may get on, and of a complete run all end with 0.
    - name: final
      action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
{{- end -}}

{{/* Kueue lets no admitted Job change its queue, so that is in the name, too. */}}
{{- define "esta.workers.name" -}}
{{- $values := .Values.workers -}}
{{- $fixed := dict "fixed" (include "esta.workers.fixed" . | fromYaml) "attempt" (int $values.attempt) "kueue" $values.kueue -}}
{{- if eq $values.kind "JobSet" -}}
{{- $set := dict "set" (include "esta.jobset.fixed" . | fromYaml) "replicas" (int $values.replicas) "groups" (int $values.jobSet.groups) "deadline" $values.activeDeadlineSeconds "topology" $values.jobSet.exclusiveTopology -}}
{{- $fixed = merge $fixed $set -}}
{{- printf "%s-%s" (include "esta.fullname" .) ($fixed | toJson | sha256sum | trunc 10) -}}
{{- else -}}
{{- printf "%s-workers-%s" (include "esta.fullname" .) ($fixed | toJson | sha256sum | trunc 10) -}}
{{- end -}}
{{- end -}}

{{/* What of a Job can change: (root, pods) */}}
{{- define "esta.workers.mutable" -}}
{{- $values := (index . 0).Values.workers -}}
# Equal, and changed together: this is what makes an Indexed Job elastic.
completions: {{ index . 1 }}
parallelism: {{ index . 1 }}
{{- with $values.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ int . }}
{{- end }}
{{- end -}}
