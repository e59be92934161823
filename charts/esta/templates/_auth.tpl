{{/* Roles of service accounts, as ESTA_TOKEN_ROLE takes them. */}}
{{- define "esta.token.roles" -}}
{{- $accounts := .Values.auth.serviceAccountTokens -}}
{{- $roles := list (printf "system:serviceaccount:%s:%s=worker" .Release.Namespace (include "esta.workers.account" .)) -}}
{{- if .Values.test.enabled -}}
{{- $roles = append $roles (printf "system:serviceaccount:%s:%s=viewer" .Release.Namespace (include "esta.viewer.account" .)) -}}
{{- end -}}
{{- range $accounts.viewers -}}{{- $roles = append $roles (printf "system:serviceaccount:%s=viewer" .) -}}{{- end -}}
{{- range $accounts.admins -}}{{- $roles = append $roles (printf "system:serviceaccount:%s=admin" .) -}}{{- end -}}
{{- join "," $roles -}}
{{- end -}}
