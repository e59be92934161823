{{/* Values that contradict each other. Each check adds a sentence that says what to do. */}}

{{- define "esta.job.keys" -}}
base name seed output_dir recipe mode family model pst budgets sampling score reduce train data palette eval timeouts
{{- end -}}

{{/* What the chart gives the programs; a user's own would stand beside it. */}}
{{- define "esta.coordinator.flags" -}}
--config --set --listen --http --workers --store --advertise --advertise-http --linger --plain-text --max-connections --tls-cert --tls-key --tls-client-ca --tokens --token-jwks --token-issuer --token-audience --token-role --workers-per-pod --store-ca --store-cert --store-key
{{- end -}}
{{- define "esta.coordinator.variables" -}}
POD_NAME NODE_NAME EXPECTED_WORKERS HOME RUST_LOG ESTA_HTTP ESTA_LINGER ESTA_PLAIN_TEXT ESTA_TLS_CERT ESTA_TLS_KEY ESTA_TLS_CLIENT_CA ESTA_TOKENS ESTA_TOKEN_JWKS ESTA_TOKEN_ISSUER ESTA_TOKEN_AUDIENCE ESTA_TOKEN_ROLE ESTA_STORE ESTA_STORE_CA ESTA_STORE_CERT ESTA_STORE_KEY ESTA_ADVERTISE ESTA_ADVERTISE_HTTP ESTA_MAX_CONNECTIONS ESTA_CACHE OTEL_SERVICE_NAME OTEL_EXPORTER_OTLP_ENDPOINT OTEL_TRACES_SAMPLER_ARG OTEL_METRIC_EXPORT_INTERVAL OTEL_RESOURCE_ATTRIBUTES AWS_ENDPOINT_URL AWS_ALLOW_HTTP AWS_REGION AWS_VIRTUAL_HOSTED_STYLE_REQUEST
{{- end -}}
{{- define "esta.workers.flags" -}}
--coordinator --name --device --host --node --http --reconnect-budget --plain-text --tls-ca --tls-cert --tls-key --token-file
{{- end -}}

{{- define "esta.validate.job" -}}
{{- if and .Values.job .Values.jobFile }}
- job and jobFile are both given: leave one of them empty.
{{- else if not (or .Values.job .Values.jobFile) }}
- there is no job: give one as `job:` in the values, or a file with --set-file jobFile=job.yaml.
{{- end }}
{{- $job := default dict .Values.job -}}
{{- with .Values.jobFile -}}
{{- $job = fromYaml . -}}
{{- with $job.Error }}
- jobFile is no mapping in YAML: {{ . | replace "\n" " " }}
{{- end -}}
{{- end -}}
{{- if not $job.Error -}}
{{- $known := include "esta.job.keys" . | splitList " " -}}
{{- range $key, $_ := $job -}}
{{- if not (has $key $known) }}
- the job has the unknown key {{ $key }}: keys are {{ join ", " $known }}.
{{- end -}}
{{- end -}}
{{- if $job.output_dir }}
- the job's output_dir is the chart's to choose, a folder for each run: set checkpoints.mountPath, checkpoints.claim.subPath or checkpoints.s3.
{{- end -}}
{{- /* What the job extends, and what that extends; a ring is the coordinator's to refuse. */ -}}
{{- $files := default dict .Values.jobFiles -}}
{{- $drain := "" -}}
{{- $above := dict "name" "the job" "content" $job -}}
{{- range until (add1 (len $files) | int) -}}
{{- with $above -}}
{{- if and (kindIs "map" .content.timeouts) (not $drain) -}}{{- $drain = get .content.timeouts "drain" | toString -}}{{- end -}}
{{- $base := toString (default "" .content.base) -}}
{{- if and $base (not (hasKey $files $base)) }}
- {{ .name }} extends {{ $base }}, which is not there: add it to jobFiles, or give what `esta-coordinator config print` makes of both.
{{- end -}}
{{- $above = ternary (dict "name" $base "content" (default "" (get $files $base) | fromYaml)) dict (and (ne $base "") (hasKey $files $base)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $text := $files -}}
{{- $content := fromYaml $text -}}
{{- /* Comments may name places. */ -}}
{{- if not $content.Error -}}{{- $text = toJson $content -}}{{- end -}}
{{- range $kind := list "models" "data" "checkpoints" -}}
{{- if contains (printf "$(%s)" $kind) $text }}
- {{ $name }} of jobFiles names $({{ $kind }}), which stands for a place in the job alone: say it there.
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey $files "job.yaml" }}
- jobFiles may not hold job.yaml, which is the job itself.
{{- end -}}
{{- if $job.name -}}
{{- if not (regexMatch "^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?$" (toString $job.name)) }}
- the job's name {{ $job.name }} is a part of paths here: letters, digits, dots, dashes and underscores, at most 63.
{{- end -}}
{{- end -}}
{{- $drain = default 300 $drain | float64 -}}
{{- if ge $drain (float64 (sub (int .Values.workers.terminationGracePeriodSeconds) (int .Values.workers.preStopSeconds))) }}
- timeouts.drain of {{ $drain }} s does not fit into workers.terminationGracePeriodSeconds of {{ int .Values.workers.terminationGracePeriodSeconds }}{{ if .Values.workers.preStopSeconds }} less workers.preStopSeconds of {{ int .Values.workers.preStopSeconds }}{{ end }}: workers would be killed while they finish their steps. Make the one longer or the other shorter.
{{- end -}}
{{- $text := toJson $job -}}
{{- range $kind := list "models" "data" -}}
{{- if and (contains (printf "$(%s)" $kind) $text) (not (index $.Values $kind).s3) (not (include "esta.claim" (list $ $kind))) }}
- the job names $({{ $kind }}), and there is no such place: set {{ $kind }}.claim.existing, {{ $kind }}.claim.create or {{ $kind }}.s3.
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "esta.validate.store" -}}
{{- $replicas := int .Values.coordinator.replicas -}}
{{- $etcd := .Values.store.etcd -}}
{{- if eq .Values.store.kind "redb" -}}
{{- if gt $replicas 1 }}
- coordinator.replicas is {{ $replicas }}, and a record in a file (store.kind: redb) is for one coordinator: set store.kind to etcd and name store.etcd.endpoints, or set coordinator.replicas to 1.
{{- end -}}
{{- if $etcd.endpoints }}
- store.etcd.endpoints are given and store.kind is redb: set store.kind to etcd, or leave them out.
{{- end -}}
{{- else -}}
{{- if not $etcd.endpoints }}
- store.kind is etcd, and no member is named: set store.etcd.endpoints, such as [etcd-0.etcd:2379].
{{- end -}}
{{- if .Values.store.redb.existingClaim }}
- store.redb.existingClaim is given and store.kind is etcd: leave one of them out.
{{- end -}}
{{- if and $etcd.tls.enabled (not $etcd.tls.caSecret) }}
- store.etcd.tls is on without store.etcd.tls.caSecret: coordinators have to know who vouches for etcd.
{{- end -}}
{{- if and $etcd.tls.clientSecret (not $etcd.tls.enabled) }}
- store.etcd.tls.clientSecret is given and TLS to etcd is off: set store.etcd.tls.enabled.
{{- end -}}
{{- end -}}
{{- range $kind := list "checkpoints" "models" "data" -}}
{{- $place := index $.Values $kind -}}
{{- if and $place.s3 (or $place.claim.existing (get $place.claim "create")) }}
- {{ $kind }} are given as a claim and as {{ $place.s3 }}: leave one of them out.
{{- end -}}
{{- if and $place.claim.existing (get $place.claim "create") }}
- {{ $kind }}.claim.create is on and {{ $kind }}.claim.existing names one that is there: leave one of them out.
{{- end -}}
{{- $modes := $place.claim.accessModes -}}
{{- $one := not (or (has "ReadWriteMany" $modes) (has "ReadOnlyMany" $modes)) -}}
{{- $mounted := ne $kind "data" -}}
{{- $apart := and (gt $replicas 1) (eq $.Values.coordinator.spread.nodes "DoNotSchedule") -}}
{{- if and (include "esta.claim" (list $ $kind)) (not $place.claim.existing) $one $mounted $apart }}
- coordinator.replicas of {{ $replicas }} have to be on different nodes (coordinator.spread.nodes: DoNotSchedule), and the claim that is made for {{ $kind }} is for one: set {{ $kind }}.claim.accessModes to [ReadWriteMany], use {{ $kind }}.s3, or set coordinator.spread.nodes to none on a cluster of one node.
{{- end -}}
{{- if and (include "esta.claim" (list $ $kind)) (not $place.claim.existing) (has "ReadWriteOncePod" $place.claim.accessModes) }}
- {{ $kind }}.claim.accessModes has ReadWriteOncePod, and more than one pod uses that claim: ReadWriteMany, or ReadWriteOnce on a cluster of one node.
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "esta.validate.security" -}}
{{- $tls := .Values.tls -}}
{{- $accounts := .Values.auth.serviceAccountTokens -}}
{{- $tokens := .Values.auth.tokens -}}
{{- if $tls.enabled -}}
{{- if and $tls.certManager.enabled (or $tls.coordinatorSecret $tls.workerSecret) }}
- tls has Secrets and cert-manager too: leave tls.coordinatorSecret and tls.workerSecret empty, or set tls.certManager.enabled to false.
{{- end -}}
{{- if not (or $tls.certManager.enabled $tls.coordinatorSecret) }}
- tls is on without certificates: name tls.coordinatorSecret (tls.crt, tls.key, ca.crt), or set tls.certManager.enabled.
{{- end -}}
{{- if and $tls.mutual $tls.coordinatorSecret (not $tls.workerSecret) }}
- tls.mutual asks workers for a certificate, and they have none: name tls.workerSecret (tls.crt, tls.key, ca.crt), or set tls.mutual to false.
{{- end -}}
{{- else if or $tls.certManager.enabled $tls.coordinatorSecret $tls.workerSecret }}
- certificates are given and TLS is off: set tls.enabled.
{{- end -}}
{{- if $accounts.enabled -}}
{{- if not (or $accounts.jwks $accounts.jwksConfigMap) }}
- auth.serviceAccountTokens is on without the cluster's public keys: give auth.serviceAccountTokens.jwks, of `kubectl get --raw /openid/v1/jwks`, or name auth.serviceAccountTokens.jwksConfigMap.
{{- end -}}
{{- if and $accounts.jwks $accounts.jwksConfigMap }}
- auth.serviceAccountTokens has jwks and jwksConfigMap: leave one of them out.
{{- end -}}
{{- if not $accounts.audience }}
- auth.serviceAccountTokens.audience is empty: tokens have to say whom they are for.
{{- end -}}
{{- if not $accounts.issuer }}
- auth.serviceAccountTokens.issuer is empty: it is `issuer` in `kubectl get --raw /.well-known/openid-configuration`.
{{- end -}}
{{- else if or $accounts.jwks $accounts.jwksConfigMap }}
- public keys are given and auth.serviceAccountTokens is off: set auth.serviceAccountTokens.enabled.
{{- end -}}
{{- if and $tokens.existingSecret (not $tokens.workerSecret) (not $accounts.enabled) }}
- auth.tokens asks workers for a token, and they have none: name auth.tokens.workerSecret.
{{- end -}}
{{- if and $tokens.workerSecret (not $tokens.existingSecret) }}
- auth.tokens.workerSecret is given, and coordinators know no tokens: name auth.tokens.existingSecret.
{{- end -}}
{{- if and $tokens.workerSecret $accounts.enabled }}
- workers have auth.tokens.workerSecret and tokens of their service account: leave one of them out.
{{- end -}}
{{- if and (or $accounts.enabled $tokens.existingSecret) (not $tls.enabled) (not .Values.auth.overPlainText) }}
- tokens are sent without TLS, and anybody on the way can read them: set tls.enabled, or auth.overPlainText where nobody is on the way.
{{- end -}}
{{- if and .Values.workers.network.hostNetwork .Values.networkPolicy.enabled (not .Values.networkPolicy.nodeCIDRs) }}
- workers.network.hostNetwork and networkPolicy.enabled: policies cannot tell such workers from their nodes, and would shut them out. Name the nodes' addresses in networkPolicy.nodeCIDRs, or set networkPolicy.enabled to false.
{{- end -}}
{{- end -}}

{{- define "esta.validate.workers" -}}
{{- $workers := .Values.workers -}}
{{- $replicas := int $workers.replicas -}}
{{- if eq $replicas 0 }}
- workers.replicas is 0, and a Job of none is complete at once: workers.suspend stops them.
{{- end -}}
{{- $total := include "esta.workers.total" . | int -}}
{{- if gt (int (default 1 .Values.coordinator.waitForWorkers)) (max $total 1) }}
- coordinator.waitForWorkers of {{ int .Values.coordinator.waitForWorkers }} is more than the {{ $total }} of workers.replicas and gpu.count: the first step would wait for workers that do not come.
{{- end -}}
{{- $together := and (eq $workers.packing.mode "required") (has "kubernetes.io/hostname" $workers.packing.topologyKeys) (gt $replicas 1) -}}
{{- $paired := and (eq $workers.kind "JobSet") (eq $workers.jobSet.exclusiveTopology "kubernetes.io/hostname") (gt $replicas (int $workers.jobSet.groups)) -}}
{{- if and $workers.network.hostNetwork $workers.http.enabled (or $together $paired) }}
- workers have to be on one node (workers.packing or workers.jobSet.exclusiveTopology), and on its own network only one pod of them can have port 7702: set workers.http.enabled to false, or workers.network.hostNetwork.
{{- end -}}
{{- if eq $workers.kind "Job" -}}
{{- if or (gt (int $workers.jobSet.groups) 1) $workers.jobSet.exclusiveTopology }}
- workers.jobSet.groups and exclusiveTopology are a JobSet's, and workers.kind is Job: set workers.kind to JobSet, or leave them out.
{{- end -}}
{{- else if ne (mod $replicas (int $workers.jobSet.groups)) 0 }}
- workers.replicas of {{ $replicas }} cannot be shared out evenly over workers.jobSet.groups of {{ int $workers.jobSet.groups }}.
{{- end -}}
{{- if and $workers.kueue.queueName $workers.suspend }}
- workers.suspend is on, and Kueue suspends and starts what is in its queue {{ $workers.kueue.queueName }} by itself: set workers.suspend to false and stop the queue, or leave workers.kueue.queueName empty.
{{- end -}}
{{- if and $workers.kueue.priorityClass (not $workers.kueue.queueName) }}
- workers.kueue.priorityClass is given without a queue: name workers.kueue.queueName.
{{- end -}}
{{- if and (gt (int $workers.gpu.count) 1) (contains "/mig-" $workers.gpu.resource) }}
- workers.gpu.count is {{ int $workers.gpu.count }} and workers.gpu.resource {{ $workers.gpu.resource }}: a process sees one MIG slice. Set workers.gpu.count to 1, and workers.replicas to their number.
{{- end -}}
{{- if and $workers.rdma.enabled (eq (int $workers.gpu.count) 0) }}
- workers.rdma is on and workers.gpu.count is 0: NCCL alone uses RDMA, and needs a GPU.
{{- end -}}
{{- if and (not $workers.rdma.enabled) (or $workers.rdma.hca $workers.rdma.networks) }}
- workers.rdma.hca or networks is given and workers.rdma is off: set workers.rdma.enabled.
{{- end -}}
{{- if and $workers.podDisruptionBudget.enabled (gt $replicas 1) (ge (int $workers.podDisruptionBudget.minAvailable) $replicas) }}
- workers.podDisruptionBudget.minAvailable of {{ int $workers.podDisruptionBudget.minAvailable }} of {{ $replicas }} workers would block every drain of a node: leave at least one free.
{{- end -}}
{{- $final := include "esta.codes" $workers.finalExitCodes | fromJsonArray -}}
{{- $index := include "esta.codes" $workers.finalIndexExitCodes | fromJsonArray -}}
{{- range $final -}}
{{- if eq (int .) (int $workers.drainedExitCode) }}
- workers.drainedExitCode {{ int . }} is one of workers.finalExitCodes: a drained node would end the run.
{{- end -}}
{{- if has . $index }}
- {{ int . }} is one of workers.finalExitCodes and of workers.finalIndexExitCodes: it can end the Job or its place, so leave it out of one of them.
{{- end -}}
{{- end -}}
{{- range $index -}}
{{- if eq (int .) (int $workers.drainedExitCode) }}
- workers.drainedExitCode {{ int . }} is one of workers.finalIndexExitCodes: the place of a drained worker would be given up.
{{- end -}}
{{- end -}}
{{- $coordinator := .Values.coordinator -}}
{{- if ge (int $coordinator.preStopSeconds) (int $coordinator.terminationGracePeriodSeconds) }}
- coordinator.preStopSeconds of {{ int $coordinator.preStopSeconds }} leave nothing of coordinator.terminationGracePeriodSeconds of {{ int $coordinator.terminationGracePeriodSeconds }}: a coordinator would be killed before it hands over. Make the one shorter or the other longer.
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled (not $workers.http.enabled) }}
- metrics.podMonitor scrapes workers, and workers.http is off: set workers.http.enabled.
{{- end -}}
{{- if and .Values.metrics.rules.enabled (not .Values.metrics.serviceMonitor.enabled) (not .Values.metrics.rules.selector) }}
- metrics.rules would watch series that nothing scrapes: set metrics.serviceMonitor.enabled, or say in metrics.rules.selector what your own are called.
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
- ingress is on without a name: set ingress.host.
{{- end -}}
{{- if and .Values.ingress.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.httpFrom) }}
- ingress is on, and networkPolicy.httpFrom lets nobody read the page: name the ingress controller's pods or namespace there.
{{- end -}}
{{- end -}}

{{- define "esta.validate.extras" -}}
{{- range $who, $flags := dict "coordinator" (include "esta.coordinator.flags" .) "workers" (include "esta.workers.flags" .) -}}
{{- $known := splitList " " $flags -}}
{{- range $arg := (index $.Values $who).extraArgs -}}
{{- $flag := first (splitList "=" $arg) -}}
{{- if eq $flag "--set" }}
- {{ $who }}.extraArgs has --set, which would change the job behind the hashes' back: change `job` instead.
{{- else if has $flag $known }}
- {{ $who }}.extraArgs has {{ $flag }}, which the chart gives: use its value.
{{- end -}}
{{- end -}}
{{- end -}}
{{- $known := include "esta.coordinator.variables" . | splitList " " -}}
{{- range .Values.coordinator.extraEnv -}}
{{- if has .name $known }}
- coordinator.extraEnv has {{ .name }}, which the chart gives: use its value.
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- $pod := include "esta.workers.template" . | fromYaml -}}
{{- range (first $pod.spec.containers).env -}}
{{- if hasKey $seen .name }}
- workers.extraEnv or workers.network.nccl has {{ .name }}, which the chart gives: use its value.
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- end -}}

{{- define "esta.validate" -}}
{{- $found := printf "%s%s%s%s%s" (include "esta.validate.job" .) (include "esta.validate.store" .) (include "esta.validate.security" .) (include "esta.validate.workers" .) (include "esta.validate.extras" .) | trim -}}
{{- with $found -}}
{{- fail (printf "these values contradict each other:\n%s\n" .) -}}
{{- end -}}
{{- end -}}
