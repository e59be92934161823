{{/* Alerts. Values of a run are taken from the coordinator that leads: one that led before may still show old ones. */}}

{{- define "esta.rules.selector" -}}
{{- default (printf "namespace=%q,esta_release=%q" .Release.Namespace (include "esta.fullname" .)) .Values.metrics.rules.selector -}}
{{- end -}}

{{/* A gauge of the leader: (selector, metric, how long ago) */}}
{{- define "esta.led" -}}
{{- $ago := "" -}}
{{- if gt (len .) 2 -}}{{- $ago = printf " offset %s" (index . 2) -}}{{- end -}}
{{- printf "max by (namespace, esta_release) (%s{%s}%s and on (namespace, pod, instance) esta_leading{%s}%s == 1)" (index . 1) (index . 0) $ago (index . 0) $ago -}}
{{- end -}}

{{/* Whether every step of the run is durable: (selector, how long ago). What is left are the last evaluation and the export. */}}
{{- define "esta.all.durable" -}}
{{- $s := index . 0 -}}
{{- $ago := rest . -}}
{{- $on := "on (namespace, esta_release)" -}}
{{- $committed := include "esta.led" (concat (list $s "esta_run_committed_steps") $ago) -}}
{{- $lag := include "esta.led" (concat (list $s "esta_record_lag_steps") $ago) -}}
{{- $steps := include "esta.led" (concat (list $s "esta_run_steps") $ago) -}}
{{- printf "%s - %s %s >= %s %s" $committed $on $lag $on $steps -}}
{{- end -}}

{{/* How much a counter has grown: (selector, metric, in how long). A series that was not there before counts in full: counters begin
with their first event, and with every start of a process. */}}
{{- define "esta.grown" -}}
{{- $series := printf "%s{%s}" (index . 1) (index . 0) -}}
{{- $in := index . 2 -}}
{{- printf "sum by (namespace, esta_release) ((increase(%s[%s]) and %s offset %s) or (%s unless %s offset %s))" $series $in $series $in $series $series $in -}}
{{- end -}}

{{- define "esta.rules" -}}
{{- $s := include "esta.rules.selector" . -}}
{{- $by := "by (namespace, esta_release)" -}}
{{- with .Values.metrics.rules }}
- alert: EstaRunStalled
  # A run that was going on then and is going on, with steps to do, and nothing was committed in between.
  expr: |-
    {{ include "esta.led" (list $s "esta_run_complete") }} == 0
    and on (namespace, esta_release) {{ include "esta.led" (list $s "esta_run_failed") }} == 0
    and on (namespace, esta_release) {{ include "esta.led" (list $s "esta_run_complete" .stalledFor) }} == 0
    unless on (namespace, esta_release) {{ include "esta.grown" (list $s "esta_steps_committed_total" .stalledFor) }} > 0
    unless on (namespace, esta_release) {{ include "esta.all.durable" (list $s) }}
  for: 1m
  severity: critical
  summary: No step was committed in {{ .stalledFor }}
  description: >-
    The run {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} is neither complete nor failed, and no step of it was
    committed in the last {{ .stalledFor }}.
- alert: EstaRunNotFinished
  # Every step was durable then and is, and the run was not complete and is not.
  expr: |-
    {{ include "esta.led" (list $s "esta_run_complete") }} == 0
    and on (namespace, esta_release) {{ include "esta.led" (list $s "esta_run_failed") }} == 0
    and on (namespace, esta_release) {{ include "esta.led" (list $s "esta_run_complete" .unfinishedFor) }} == 0
    and on (namespace, esta_release) {{ include "esta.all.durable" (list $s) }}
    and on (namespace, esta_release) {{ include "esta.all.durable" (list $s .unfinishedFor) }}
  for: 1m
  severity: warning
  summary: The results are not written
  description: >-
    Every step of the run {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} has been durable for
    {{ .unfinishedFor }}, and its palette is not evaluated and exported yet.
- alert: EstaRunFailed
  # Of the last minutes: a coordinator may end with its run.
  expr: max {{ $by }} (max_over_time(esta_run_failed{ {{- $s -}} }[5m])) == 1
  for: 0m
  severity: critical
  summary: The run has failed
  description: >-
    The run {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} cannot go on: its ranks disagree, or its numbers are
    not finite. The coordinator's log and page say which.
- alert: EstaNoLeader
  expr: |-
    sum {{ $by }} (esta_leading{ {{- $s -}} }) == 0
    or absent(esta_leading{ {{- $s -}} })
  for: 2m
  severity: critical
  summary: No coordinator leads
  description: >-
    No coordinator of {{ include "esta.fullname" $ }} in {{ $.Release.Namespace }} has led for two minutes, or none is scraped.
    Workers end when they have found none for {{ int $.Values.workers.reconnectSeconds }} s.
- alert: EstaRecordLagging
  expr: {{ include "esta.led" (list $s "esta_record_lag_steps") }} > {{ int .recordLagSteps }}
  for: 5m
  severity: warning
  summary: The record lags behind the run
  description: >-
    {{`{{ $value }}`}} committed steps of {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} are not durable. They are
    done again should the coordinator end at this moment.
- alert: EstaWorkersLost
  # Whatever the cause.
  expr: {{ include "esta.grown" (list $s "esta_workers_lost_total" "1h") }} > {{ int .workersLostPerHour }}
  for: 0m
  severity: warning
  summary: Workers are lost too often
  description: >-
    {{`{{ $value | humanize }}`}} workers of {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} were lost in the last
    hour: they fell silent, hung, had other numbers than their peers, or lost their connection. Each costs what it had in hand.
- alert: EstaWorkersMissing
  # The number is the values', not what a coordinator read when it started: another one starts none again.
  expr: |-
    sum {{ $by }} (esta_members{state=~"ready|forming|spare",{{ $s }}} and on (namespace, pod, instance) esta_leading{ {{- $s -}} } == 1)
    < {{ include "esta.workers.total" $ }}
    unless on (namespace, esta_release) {{ include "esta.led" (list $s "esta_run_complete") }} == 1
    unless on (namespace, esta_release) {{ include "esta.all.durable" (list $s) }}
  for: 30m
  severity: warning
  summary: Fewer workers than expected
  description: >-
    {{`{{ $value }}`}} workers of {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} have been here for half an hour,
    fewer than the {{ include "esta.workers.total" $ }} of the values. It goes on, more slowly.
- alert: EstaWorkersTurnedAway
  # By whichever coordinator was asked.
  expr: {{ include "esta.grown" (list $s "esta_workers_turned_away_total" "15m") }} > 0
  for: 0m
  severity: warning
  summary: Workers are turned away
  description: >-
    Coordinators of {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} turned workers away {{`{{ $value | humanize }}`}}
    times in 15 minutes: wrong tokens or names, another protocol, or a job that they do not fit.
- alert: EstaStragglers
  expr: {{ include "esta.led" (list $s "esta_stragglers") }} > 0
  for: 15m
  severity: warning
  summary: Workers are slower than their peers
  description: >-
    {{`{{ $value }}`}} workers of {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} have held up the others for 15
    minutes.
- alert: EstaStepsSkipped
  expr: |-
    {{ include "esta.grown" (list $s "esta_steps_skipped_total" "1h") }}
    / {{ include "esta.grown" (list $s "esta_steps_committed_total" "1h") }} > {{ .skippedShare }}
  for: 5m
  severity: warning
  summary: Too many steps are skipped
  description: >-
    {{`{{ $value | humanizePercentage }}`}} of the steps of {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} in the last
    hour had gradients that are not finite. They changed nothing.
- alert: EstaWorkerMemoryOverPlan
  expr: |-
    max by (namespace, esta_release, pod) (
      (esta_worker_memory_bytes{kind="device",{{ $s }}} > 0 or on (namespace, pod, instance) esta_worker_memory_bytes{kind="rss",{{ $s }}})
      / on (namespace, pod, instance) group_left () (esta_worker_memory_planned_bytes{ {{- $s -}} } > 0)
    ) > {{ .memoryOverPlan }}
  for: 5m
  severity: warning
  summary: A worker takes more memory than planned
  description: >-
    {{`{{ $labels.pod }}`}} takes {{`{{ $value | humanizePercentage }}`}} of the memory that was planned for it. It is killed where its
    limit, or its GPU, ends.
- alert: EstaCoordinatorRestarts
  expr: changes((max {{ $by }} (esta_leader_epoch{ {{- $s -}} }))[1h:1m]) > {{ int .restartsPerHour }}
  for: 0m
  severity: warning
  summary: Coordinators start again or change too often
  description: >-
    {{`{{ $labels.esta_release }}`}} in {{`{{ $labels.namespace }}`}} got a new leader {{`{{ $value }}`}} times in the last hour.
{{- end }}
{{- end -}}
