"""Where each value of the chart shows: a value, what it is set to, a place in the documents (as engines.find takes it), and what then
stands there, None for nothing. Rows of one table are rendered together, over a scenario and a change of it.
"""

import re

from engines import SCENARIOS

CPU, GPU, JOBSET, MULTI = SCENARIOS
COORDINATOR, WORKER, STATUS = "StatefulSet spec template spec", "Job spec template spec", "Pod spec"
SERVING, TRAINING, ASKING = f"{COORDINATOR} containers coordinator", f"{WORKER} containers worker", f"{STATUS} containers status"
LABELS, NOTES = "metadata labels", "metadata annotations"
POD = {"podSelector": {"matchLabels": {"app": "x"}}}
OUT = {"to": [POD], "ports": [{"port": 443}]}
PROBE = {"periodSeconds": 31, "timeoutSeconds": 32, "failureThreshold": 33}
TOLERATED = {"key": "k", "operator": "Exists", "effect": "NoExecute"}
NODES = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchFields": []}}]}
RESOURCES = {"requests": {"cpu": "77m", "memory": "77Mi"}, "limits": {"memory": "78Mi"}}
SECRET = [{"name": "pull"}]
MADE, CLAIM = "PersistentVolumeClaim/esta", "persistentVolumeClaim claimName"
RECORD, ALERTS = f"{MADE}-record", "PrometheusRule spec groups 0 rules"
GATE, FENCE = "NetworkPolicy/esta-coordinator spec", "NetworkPolicy/esta-worker spec"
TOKEN = "volumes token projected sources 0 serviceAccountToken"
RUN = "quickstart-[0-9a-f]{10}"


def probed(path):
    return {"httpGet": {"path": path, "port": "http"}, **PROBE}


def ended_with(*codes):
    return {"containerName": "worker", "operator": "In", "values": [*codes]}


def tcp(port):
    return [{"protocol": "TCP", "port": port}]


def pods(who, workload, container):
    """What coordinators and workers have in common."""
    pod = f"{workload} spec template spec"
    main, account = f"{pod} containers {container}", f"ServiceAccount/{who}-account"
    variable, source, first = {"name": "A", "value": "b"}, {"configMapRef": {"name": "more"}}, {"name": "first", "image": "first"}
    volume, mount = {"name": "v", "emptyDir": {}}, {"name": "v", "mountPath": "/v"}
    return [
        ("image.registry", "r.example/esta/", f"{main} image", "r.example/esta/mine:7"),
        (f"{who}.image.repository", "mine", f"{main} image", "r.example/esta/mine:7"),
        (f"{who}.image.tag", "7", f"{main} image", "r.example/esta/mine:7"),
        (f"{who}.image.pullPolicy", "Always", f"{main} imagePullPolicy", "Always"),
        ("imagePullSecrets", SECRET, f"{pod} imagePullSecrets", SECRET),
        ("logLevel", "debug", f"{main} env RUST_LOG value", "debug"),
        (f"{who}.resources", RESOURCES, f"{main} resources", RESOURCES),
        (f"{who}.terminationGracePeriodSeconds", 400, f"{pod} terminationGracePeriodSeconds", 400),
        (f"{who}.preStopSeconds", 7, f"{main} lifecycle preStop sleep seconds", 7),
        (f"{who}.probes.startup", PROBE, f"{main} startupProbe", probed("/healthz")),
        (f"{who}.probes.liveness", PROBE, f"{main} livenessProbe", probed("/healthz")),
        (f"{who}.probes.readiness", PROBE, f"{main} readinessProbe", probed("/readyz")),
        (f"{who}.serviceAccount.name", f"{who}-account", f"{pod} serviceAccountName", f"{who}-account"),
        (f"{who}.serviceAccount.name", f"{who}-account", f"{account} automountServiceAccountToken", False),
        (f"{who}.serviceAccount.annotations", {"role": "r"}, f"{account} {NOTES} role", "r"),
        (f"{who}.podAnnotations", {"note": "x"}, f"{workload} spec template {NOTES} note", "x"),
        (f"{who}.podLabels", {"team": "y"}, f"{workload} spec template {LABELS} team", "y"),
        (f"{who}.nodeSelector", {"a": "b"}, f"{pod} nodeSelector", {"a": "b"}),
        (f"{who}.tolerations", [TOLERATED], f"{pod} tolerations", [TOLERATED]),
        (f"{who}.affinity", {"nodeAffinity": NODES}, f"{pod} affinity nodeAffinity", NODES),
        (f"{who}.priorityClassName", "high", f"{pod} priorityClassName", "high"),
        (f"{who}.podSecurityContext", {"fsGroup": 7}, f"{pod} securityContext fsGroup", 7),
        (f"{who}.securityContext", {"runAsUser": 8}, f"{main} securityContext runAsUser", 8),
        (f"{who}.extraArgs", ["--x"], f"{main} args -1", "--x"),
        (f"{who}.extraEnv", [variable], f"{main} env A", variable),
        (f"{who}.extraEnvFrom", [source], f"{main} envFrom", [source]),
        (f"{who}.extraVolumes", [volume], f"{pod} volumes v", volume),
        (f"{who}.extraVolumeMounts", [mount], f"{main} volumeMounts /v", mount),
        (f"{who}.initContainers", [first], f"{pod} initContainers", [first]),
    ]


# What the rows are laid over: a scenario and a change of it.
TABLES = {
    "coordinators": (CPU, {}, [
        *pods("coordinator", "StatefulSet", "coordinator"),
        ("coordinator.image.tag", "7", f"{ASKING} image", "r.example/esta/mine:7"),
        ("coordinator.image.pullPolicy", "Always", f"{ASKING} imagePullPolicy", "Always"),
        ("imagePullSecrets", SECRET, f"{STATUS} imagePullSecrets", SECRET),
        ("coordinator.nodeSelector", {"a": "b"}, f"{STATUS} nodeSelector", {"a": "b"}),
        ("coordinator.tolerations", [TOLERATED], f"{STATUS} tolerations", [TOLERATED]),
        ("coordinator.podSecurityContext", {"fsGroup": 7}, f"{STATUS} securityContext fsGroup", 7),
        ("coordinator.securityContext", {"runAsUser": 8}, f"{ASKING} securityContext runAsUser", 8),
        ("test.resources", RESOURCES, f"{ASKING} resources", RESOURCES),
        ("coordinator.extraContainers", [{"name": "side", "image": "i"}], f"{COORDINATOR} containers side", {"name": "side", "image": "i"}),
        ("coordinator.waitForWorkers", 1, "ConfigMap/esta-size data workers", "1"),
        ("coordinator.linger", "10m", f"{SERVING} env ESTA_LINGER value", "10m"),
        ("coordinator.maxConnections", 9, f"{SERVING} args --max-connections", "9"),
        ("coordinator.cache.sizeLimit", "3Gi", f"{COORDINATOR} volumes cache emptyDir sizeLimit", "3Gi"),
        ("coordinator.minReadySeconds", 6, "StatefulSet spec minReadySeconds", 6),
        ("coordinator.podDisruptionBudget.maxUnavailable", 2, "PodDisruptionBudget/esta-coordinator spec maxUnavailable", 2),
        ("coordinator.spread.nodes", "ScheduleAnyway", f"{COORDINATOR} topologySpreadConstraints kubernetes.io/hostname whenUnsatisfiable", "ScheduleAnyway"),
        ("coordinator.spread.zones", "none", f"{COORDINATOR} topologySpreadConstraints topology.kubernetes.io/zone", None),
        ("coordinator.service.type", "NodePort", "Service/esta spec type", "NodePort"),
        ("coordinator.service.annotations", {"lb": "y"}, f"Service/esta {NOTES} lb", "y"),
        ("listenAddress", "[::]", f"{SERVING} args --listen", "[::]:7700"),
        ("listenAddress", "[::]", f"{SERVING} env ESTA_HTTP value", "[::]:7701"),
        ("listenAddress", "[::]", f"{TRAINING} env ESTA_HTTP value", "[::]:7702"),
        ("commonLabels", {"cost": "7"}, f"Service/esta-workers {LABELS} cost", "7"),
        ("commonAnnotations", {"owner": "z"}, f"Service/esta-workers {NOTES} owner", "z"),
        ("job", {"seed": 7}, "job seed", 7),
        ("jobFiles", {"b.yaml": "seed: 7"}, "files b.yaml", "seed: 7"),
        ("extraObjects", [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "train"}}], "Secret/x apiVersion", "v1"),
    ]),
    "workers": (CPU, {}, [
        *pods("workers", "Job", "worker"),
        ("workers.replicas", 5, "Job spec parallelism", 5),
        ("workers.replicas", 5, "Job spec completions", 5),
        ("workers.suspend", True, "Job spec suspend", True),
        ("workers.shm.sizeLimit", "3Gi", f"{WORKER} volumes shm emptyDir sizeLimit", "3Gi"),
        ("cache.sizeLimit", "4Gi", f"{WORKER} volumes cache emptyDir sizeLimit", "4Gi"),
        ("workers.network.hostNetwork", True, f"{WORKER} hostNetwork", True),
        ("workers.network.glooInterface", "eth1", f"{TRAINING} env GLOO_SOCKET_IFNAME value", "eth1"),
        ("workers.reconnectSeconds", 601, f"{TRAINING} args --reconnect-budget", "601"),
        ("workers.retriesPerWorker", 21, "Job spec backoffLimitPerIndex", 21),
        # In order and each once, as the API demands.
        ("workers.finalExitCodes", [100, 4, 20, 4], "Job spec podFailurePolicy rules 2", {"action": "FailJob", "onExitCodes": ended_with(4, 20, 100)}),
        ("workers.finalIndexExitCodes", [8, 110, 9, 8], "Job spec podFailurePolicy rules 3", {"action": "FailIndex", "onExitCodes": ended_with(8, 9, 110)}),
        ("workers.drainedExitCode", 99, "Job spec podFailurePolicy rules 1 onExitCodes values", [99]),
        ("workers.drainedExitCode", 99, f"{TRAINING} env ESTA_DRAINED_EXIT_CODE value", "99"),
        ("workers.activeDeadlineSeconds", 90, "Job spec activeDeadlineSeconds", 90),
        ("workers.ttlSecondsAfterFinished", 91, "Job spec ttlSecondsAfterFinished", 91),
        ("workers.podDisruptionBudget.minAvailable", 3, "PodDisruptionBudget/esta-worker spec minAvailable", 3),
        ("workers.packing.mode", "required", f"{WORKER} affinity podAffinity requiredDuringSchedulingIgnoredDuringExecution rack topologyKey", "rack"),
        ("workers.packing.topologyKeys", ["rack"], f"{WORKER} affinity podAffinity requiredDuringSchedulingIgnoredDuringExecution 0 topologyKey", "rack"),
        ("workers.annotations", {"i": "j"}, f"Job {NOTES} i", "j"),
        ("workers.labels", {"k": "l"}, f"Job {LABELS} k", "l"),
        ("workers.runtimeClassName", "mine", f"{WORKER} runtimeClassName", "mine"),
        ("workers.schedulerName", "mine", f"{WORKER} schedulerName", "mine"),
    ]),
    "GPUs, RDMA and a queue": (GPU, {}, [
        ("workers.gpu.resource", "n/mig", f"{TRAINING} resources limits n/mig", 8),
        ("workers.gpu.resource", "n/mig", f"{WORKER} tolerations 0 key", "n/mig"),
        ("workers.rdma.enabled", True, f"{TRAINING} securityContext capabilities add", ["IPC_LOCK"]),
        ("workers.rdma.resource", "r/hca", f"{TRAINING} resources requests r/hca", 2),
        ("workers.rdma.count", 2, f"{TRAINING} resources limits r/hca", 2),
        ("workers.rdma.hca", "mlx5_9", f"{TRAINING} env NCCL_IB_HCA value", "mlx5_9"),
        ("workers.rdma.networks", "roce", f"Job spec template {NOTES} k8s.v1.cni.cncf.io/networks", "roce"),
        ("workers.network.ncclInterface", "eth2", f"{TRAINING} env NCCL_SOCKET_IFNAME value", "eth2"),
        ("workers.network.nccl", {"NCCL_DEBUG": "INFO"}, f"{TRAINING} env NCCL_DEBUG value", "INFO"),
        ("workers.kueue.queueName", "q", f"Job {LABELS} kueue.x-k8s.io/queue-name", "q"),
        ("workers.kueue.priorityClass", "p", f"Job {LABELS} kueue.x-k8s.io/priority-class", "p"),
        ("workers.image.digest", "sha256:" + "7" * 64, f"{TRAINING} image", "esta-worker@sha256:" + "7" * 64),
        ("coordinator.image.digest", "sha256:" + "8" * 64, f"{SERVING} image", "esta-coordinator@sha256:" + "8" * 64),
    ]),
    "a JobSet": (CPU, {}, [
        ("workers.kind", "JobSet", "JobSet spec replicatedJobs workers template spec completionMode", "Indexed"),
        ("workers.jobSet.groups", 2, "JobSet spec replicatedJobs workers replicas", 2),
        ("workers.jobSet.maxRestarts", 4, "JobSet spec failurePolicy maxRestarts", 4),
        ("workers.jobSet.exclusiveTopology", "rack", f"JobSet spec replicatedJobs workers template {NOTES} alpha.jobset.sigs.k8s.io/exclusive-topology", "rack"),
        ("workers.suspend", True, "JobSet spec suspend", True),
        ("workers.ttlSecondsAfterFinished", 91, "JobSet spec ttlSecondsAfterFinished", 91),
        ("workers.labels", {"k": "l"}, f"JobSet {LABELS} k", "l"),
        ("workers.annotations", {"i": "j"}, f"JobSet {NOTES} i", "j"),
    ]),
    "what is switched off on processors": (CPU, {}, [
        ("coordinator.podDisruptionBudget.enabled", False, "PodDisruptionBudget/esta-coordinator", None),
        ("workers.podDisruptionBudget.enabled", False, "PodDisruptionBudget/esta-worker", None),
        ("coordinator.serviceAccount.create", False, "ServiceAccount/esta-coordinator", None),
        ("coordinator.serviceAccount.create", False, f"{COORDINATOR} serviceAccountName", "default"),
        ("workers.serviceAccount.create", False, "ServiceAccount/esta-worker", None),
        ("workers.serviceAccount.create", False, f"{WORKER} serviceAccountName", "default"),
        ("workers.http.enabled", False, f"{TRAINING} readinessProbe", None),
        ("workers.http.enabled", False, f"{TRAINING} env ESTA_HTTP", None),
        ("workers.http.enabled", False, f"{TRAINING} ports", None),
        ("test.enabled", False, "Pod", None),
        ("models.readOnly", False, f"{TRAINING} volumeMounts /models readOnly", None),
        ("data.readOnly", False, f"{TRAINING} volumeMounts /data readOnly", None),
    ]),
    "what is switched off on GPUs": (GPU, {}, [
        ("workers.gpu.tolerate", False, f"{WORKER} tolerations", None),
    ]),
    "GPUs of a pod": (CPU, {"networkPolicy": {"enabled": True, "httpFrom": [POD]}}, [
        ("workers.gpu.count", 4, f"{FENCE} ingress 1 ports", [{"protocol": "TCP", "port": 7702, "endPort": 7706}]),
    ]),
    "no GPU": (GPU, {}, [
        ("workers.gpu.count", 0, f"{TRAINING} args --device", "cpu"),
        ("workers.gpu.count", 0, f"{TRAINING} resources limits", {"memory": "512Gi"}),
        ("workers.gpu.count", 0, f"{WORKER} tolerations", None),
    ]),
    "names": (CPU, {}, [
        ("nameOverride", "other", f"StatefulSet/mine-coordinator {LABELS} app.kubernetes.io/name", "other"),
        ("fullnameOverride", "mine", "StatefulSet/mine-coordinator spec serviceName", "mine-coordinators"),
        ("clusterDomain", "example.org", f"{TRAINING} env ESTA_COORDINATOR value", "http://mine.train.svc.example.org:7700"),
    ]),
    "a job in a file": (JOBSET, {}, [
        ("jobFile", "{name: other, data: {train: $(data)/x}}", "job data train", "/data/x"),
    ]),
    "a record in etcd": (CPU, {"checkpoints": {"claim": {"accessModes": ["ReadWriteMany"]}}}, [
        ("coordinator.replicas", 3, "StatefulSet spec replicas", 3),
        ("store.kind", "etcd", RECORD, None),
        ("store.etcd.endpoints", ["a:7", "b"], f"{SERVING} args --store", re.compile(f"etcds://a:7,b/keys/{RUN}")),
        ("store.etcd.prefix", "/keys/", f"{SERVING} args --store", re.compile(f"etcds://a:7,b/keys/{RUN}")),
        ("store.etcd.tls.enabled", True, f"{SERVING} env ESTA_STORE_CA value", "/etc/esta/etcd-ca/ca.crt"),
        ("store.etcd.tls.caSecret", "ca", f"{COORDINATOR} volumes etcd-ca secret secretName", "ca"),
        ("store.etcd.tls.caKey", "root.pem", f"{COORDINATOR} volumes etcd-ca secret items", [{"key": "root.pem", "path": "ca.crt"}]),
        ("store.etcd.tls.clientSecret", "own", f"{COORDINATOR} volumes etcd-client secret secretName", "own"),
        ("store.etcd.tls.clientSecret", "own", f"{SERVING} env ESTA_STORE_CERT value", "/etc/esta/etcd-client/tls.crt"),
        ("store.etcd.tls.clientSecret", "own", f"{SERVING} volumeMounts /etc/esta/etcd-client name", "etcd-client"),
    ]),
    "claims that are made": (CPU, {}, [
        ("store.redb.size", "2Gi", f"{RECORD} spec resources requests storage", "2Gi"),
        ("store.redb.storageClassName", "disk", f"{RECORD} spec storageClassName", "disk"),
        ("store.redb.annotations", {"m": "n"}, f"{RECORD} {NOTES} m", "n"),
        ("checkpoints.claim.accessModes", ["ReadWriteMany"], f"{MADE}-checkpoints spec accessModes", ["ReadWriteMany"]),
        *[row for kind in ("checkpoints", "models", "data") for row in (
            (f"{kind}.claim.size", "3Gi", f"{MADE}-{kind} spec resources requests storage", "3Gi"),
            (f"{kind}.claim.storageClassName", "files", f"{MADE}-{kind} spec storageClassName", "files"),
            (f"{kind}.claim.annotations", {"m": "n"}, f"{MADE}-{kind} {NOTES} m", "n"),
            (f"{kind}.claim.subPath", "below", f"{TRAINING} volumeMounts /in/{kind} subPath", "below"),
            (f"{kind}.mountPath", f"/in/{kind}", f"{TRAINING} volumeMounts /in/{kind} mountPath", f"/in/{kind}"),
        )],
        *[row for kind in ("models", "data") for row in (
            (f"{kind}.claim.existing", "", f"{WORKER} volumes {kind} {CLAIM}", f"esta-{kind}"),
            (f"{kind}.claim.create", True, f"{MADE}-{kind} {NOTES} helm.sh/resource-policy", "keep"),
            (f"{kind}.claim.accessModes", ["ReadOnlyMany"], f"{MADE}-{kind} spec accessModes", ["ReadOnlyMany"]),
        )],
        ("checkpoints.mountPath", "/in/checkpoints", f"{SERVING} volumeMounts /in/checkpoints name", "checkpoints"),
        ("models.mountPath", "/in/models", f"{SERVING} volumeMounts /in/models readOnly", True),
        ("models.mountPath", "/in/models", "job family anchors s weights", "/in/models/s"),
    ]),
    "claims that are there": (CPU, {}, [
        ("store.redb.existingClaim", "r", f"{COORDINATOR} volumes record {CLAIM}", "r"),
        ("store.redb.existingClaim", "r", RECORD, None),
        ("cache.existingClaim", "shared", f"{WORKER} volumes cache", {"name": "cache", "persistentVolumeClaim": {"claimName": "shared"}}),
        ("checkpoints.claim.existing", "c", f"{MADE}-checkpoints", None),
        *[(f"{kind}.claim.existing", kind[0], f"{WORKER} volumes {kind} {CLAIM}", kind[0]) for kind in ("checkpoints", "models", "data")],
    ]),
    "object storage": (CPU, {}, [
        ("checkpoints.s3", "s3://b/c", "job output_dir", re.compile(f"s3://b/c/{RUN}")),
        ("models.s3", "s3://b/m", "job family anchors s weights", "s3://b/m/s"),
        ("models.claim.existing", "", f"{WORKER} volumes models", None),
        ("data.s3", "s3://b/d", "job data train path", "s3://b/d/t10k-images-idx3-ubyte.gz"),
        ("data.claim.existing", "", f"{TRAINING} volumeMounts /data", None),
        *[row for main in (SERVING, TRAINING) for row in (
            ("s3.existingSecret", "keys", f"{main} envFrom 0 secretRef name", "keys"),
            ("s3.endpoint", "http://minio:9000", f"{main} env AWS_ENDPOINT_URL value", "http://minio:9000"),
            ("s3.endpoint", "http://minio:9000", f"{main} env AWS_ALLOW_HTTP value", "true"),
            ("s3.region", "far", f"{main} env AWS_REGION value", "far"),
            ("s3.virtualHosted", True, f"{main} env AWS_VIRTUAL_HOSTED_STYLE_REQUEST value", "true"),
        )],
    ]),
    "certificates of Secrets": (CPU, {}, [
        ("tls.enabled", True, f"{SERVING} args --advertise", "https://$(POD_NAME).esta-coordinators.train.svc.cluster.local:7700"),
        ("tls.enabled", True, f"{SERVING} env ESTA_TLS_KEY value", "/etc/esta/tls/tls.key"),
        ("tls.enabled", True, f"{TRAINING} env ESTA_TLS_CERT value", "/etc/esta/tls/tls.crt"),
        ("tls.coordinatorSecret", "c", f"{COORDINATOR} volumes tls secret secretName", "c"),
        ("tls.workerSecret", "w", f"{WORKER} volumes tls secret secretName", "w"),
        ("tls.workerSecret", "w", f"{STATUS} volumes tls secret secretName", "w"),
    ]),
    "TLS that is not mutual": (MULTI, {}, [
        ("tls.mutual", False, f"{SERVING} env ESTA_TLS_CLIENT_CA", None),
        ("tls.mutual", False, f"{TRAINING} env ESTA_TLS_KEY", None),
    ]),
    "certificates of cert-manager": (CPU, {"tls": {"enabled": True, "coordinatorSecret": "c", "workerSecret": "w"}}, [
        ("tls.coordinatorSecret", "", f"{COORDINATOR} volumes tls secret secretName", "esta-coordinator-tls"),
        ("tls.workerSecret", "", f"{WORKER} volumes tls secret secretName", "esta-worker-tls"),
        *[row for certificate in ("Certificate/esta-coordinator-tls", "Certificate/esta-worker-tls") for row in (
            ("tls.certManager.enabled", True, f"{certificate} spec privateKey rotationPolicy", "Always"),
            ("tls.certManager.issuerRef.name", "mine", f"{certificate} spec issuerRef name", "mine"),
            ("tls.certManager.issuerRef.kind", "ClusterIssuer", f"{certificate} spec issuerRef kind", "ClusterIssuer"),
            ("tls.certManager.issuerRef.group", "g.example", f"{certificate} spec issuerRef group", "g.example"),
            ("tls.certManager.duration", "48h", f"{certificate} spec duration", "48h"),
            ("tls.certManager.renewBefore", "24h", f"{certificate} spec renewBefore", "24h"),
        )],
    ]),
    "tokens of service accounts": (CPU, {}, [
        ("auth.overPlainText", True, f"{TRAINING} env ESTA_PLAIN_TEXT value", "true"),
        ("auth.serviceAccountTokens.enabled", True, f"{TRAINING} env ESTA_TOKEN_FILE value", "/etc/esta/token/token"),
        ("auth.serviceAccountTokens.audience", "them", f"{SERVING} env ESTA_TOKEN_AUDIENCE value", "them"),
        ("auth.serviceAccountTokens.audience", "them", f"{WORKER} {TOKEN} audience", "them"),
        ("auth.serviceAccountTokens.issuer", "https://i", f"{SERVING} env ESTA_TOKEN_ISSUER value", "https://i"),
        ("auth.serviceAccountTokens.jwks", '{"keys":[]}', "ConfigMap/esta-jwks data jwks.json", '{"keys":[]}'),
        ("auth.serviceAccountTokens.jwks", '{"keys":[]}', f"{COORDINATOR} volumes jwks configMap name", "esta-jwks"),
        ("auth.serviceAccountTokens.expirationSeconds", 700, f"{WORKER} {TOKEN} expirationSeconds", 700),
        ("auth.serviceAccountTokens.expirationSeconds", 700, f"{STATUS} {TOKEN} expirationSeconds", 700),
        ("auth.serviceAccountTokens.viewers", ["n:v"], f"{SERVING} env ESTA_TOKEN_ROLE value", re.compile(".*,system:serviceaccount:n:v=viewer,.*")),
        ("auth.serviceAccountTokens.admins", ["n:a"], f"{SERVING} env ESTA_TOKEN_ROLE value", re.compile(".*,system:serviceaccount:n:a=admin")),
    ]),
    "public keys that are there": (MULTI, {}, [
        ("auth.serviceAccountTokens.jwks", "", "ConfigMap/esta-jwks", None),
        ("auth.serviceAccountTokens.jwksConfigMap", "keys", f"{COORDINATOR} volumes jwks configMap name", "keys"),
        ("auth.serviceAccountTokens.jwksKey", "k", f"{COORDINATOR} volumes jwks configMap items", [{"key": "k", "path": "jwks.json"}]),
    ]),
    "tokens of Secrets": (CPU, {"auth": {"overPlainText": True}}, [
        ("auth.tokens.existingSecret", "t", f"{COORDINATOR} volumes tokens secret secretName", "t"),
        ("auth.tokens.existingSecret", "t", f"{SERVING} env ESTA_TOKENS value", "/etc/esta/tokens/tokens"),
        ("auth.tokens.key", "list", f"{COORDINATOR} volumes tokens secret items", [{"key": "list", "path": "tokens"}]),
        ("auth.tokens.workerSecret", "w", f"{WORKER} volumes token secret secretName", "w"),
        ("auth.tokens.workerKey", "wk", f"{WORKER} volumes token secret items", [{"key": "wk", "path": "token"}]),
        ("auth.tokens.viewerSecret", "v", f"{STATUS} volumes token secret secretName", "v"),
        ("auth.tokens.viewerKey", "vk", f"{STATUS} volumes token secret items", [{"key": "vk", "path": "token"}]),
    ]),
    "policies": (CPU, {}, [
        *[row for policy, port in ((GATE, 7701), (FENCE, 7702)) for row in (
            ("networkPolicy.enabled", True, f"{policy} policyTypes", ["Ingress", "Egress"]),
            ("networkPolicy.httpFrom", [POD], f"{policy} ingress 1", {"from": [POD], "ports": tcp(port)}),
        )],
        ("networkPolicy.nodeCIDRs", ["10.0.0.0/8"], f"{GATE} ingress 0 from -2", {"ipBlock": {"cidr": "10.0.0.0/8"}}),
        ("networkPolicy.grpcFrom", [POD], f"{GATE} ingress 0 from -1", POD),
        ("networkPolicy.enabled", True, f"{GATE} ingress 0 ports", tcp(7700)),
        ("networkPolicy.enabled", True, f"{GATE} ingress 2 ports", tcp(7701)),
        ("networkPolicy.enabled", True, f"{GATE} egress 0 ports", tcp(7701)),
        ("networkPolicy.coordinatorEgress", [OUT], f"{GATE} egress -1", OUT),
        ("networkPolicy.workerEgress", [OUT], f"{FENCE} egress -1", OUT),
    ]),
    "policies where Services change ports": (MULTI, {}, [
        *[row for policy, first in ((GATE, 2), (FENCE, 3)) for row in (
            ("networkPolicy.ports.otlp", 14317, f"{policy} egress {first} ports", tcp(14317)),
            ("networkPolicy.ports.s3", 19000, f"{policy} egress {first + 1} ports", tcp(19000)),
        )],
        ("networkPolicy.ports.etcd", 12379, f"{GATE} egress 4 ports", tcp(12379)),
    ]),
    "monitors": (CPU, {}, [
        ("metrics.serviceMonitor.enabled", True, "ServiceMonitor spec endpoints 0 path", "/metrics"),
        ("metrics.serviceMonitor.interval", "7s", "ServiceMonitor spec endpoints 0 interval", "7s"),
        ("metrics.serviceMonitor.labels", {"o": "s"}, f"ServiceMonitor {LABELS} o", "s"),
        ("metrics.podMonitor.enabled", True, "PodMonitor spec podMetricsEndpoints 0 path", "/metrics"),
        ("metrics.podMonitor.interval", "8s", "PodMonitor spec podMetricsEndpoints 0 interval", "8s"),
        ("metrics.podMonitor.labels", {"o": "p"}, f"PodMonitor {LABELS} o", "p"),
        ("metrics.rules.enabled", True, "PrometheusRule spec groups 0 name", "esta"),
        ("metrics.rules.labels", {"o": "r"}, f"PrometheusRule {LABELS} o", "r"),
        ("metrics.dashboard.enabled", True, "ConfigMap/esta-dashboard apiVersion", "v1"),
        ("metrics.dashboard.namespace", "grafana", "ConfigMap/esta-dashboard metadata namespace", "grafana"),
        ("metrics.dashboard.labels", {"grafana_dashboard": "2"}, f"ConfigMap/esta-dashboard {LABELS} grafana_dashboard", "2"),
        ("metrics.dashboard.annotations", {"f": "g"}, f"ConfigMap/esta-dashboard {NOTES} f", "g"),
    ]),
    "alerts": (CPU, {"metrics": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}}}, [
        ("metrics.rules.alertLabels", {"team": "t"}, f"{ALERTS} EstaNoLeader labels", {"severity": "critical", "team": "t"}),
        ("metrics.rules.selector", 'job="x"', f"{ALERTS} EstaNoLeader expr", re.compile(r'(?s).*{job="x"}\) == 0.*{job="x"}\)')),
        ("metrics.rules.runbook", "https://r.example/o", f"{ALERTS} EstaNoLeader annotations runbook_url", "https://r.example/o#estanoleader"),
        ("metrics.rules.stalledFor", "20m", f"{ALERTS} EstaRunStalled expr", re.compile(r"(?s).*\[20m\]\) and .* offset 20m.*")),
        ("metrics.rules.unfinishedFor", "7h", f"{ALERTS} EstaRunNotFinished expr", re.compile(r"(?s).* offset 7h.*")),
        ("workers.replicas", 5, f"{ALERTS} EstaWorkersMissing expr", re.compile(r"(?s).*\n< 5\n.*")),
        ("metrics.rules.recordLagSteps", 51, f"{ALERTS} EstaRecordLagging expr", re.compile(".*> 51")),
        ("metrics.rules.workersLostPerHour", 6, f"{ALERTS} EstaWorkersLost expr", re.compile(".*> 6")),
        ("metrics.rules.skippedShare", 0.02, f"{ALERTS} EstaStepsSkipped expr", re.compile("(?s).*> 0.02")),
        ("metrics.rules.memoryOverPlan", 1.2, f"{ALERTS} EstaWorkerMemoryOverPlan expr", re.compile("(?s).*> 1.2")),
        ("metrics.rules.restartsPerHour", 4, f"{ALERTS} EstaCoordinatorRestarts expr", re.compile(".*> 4")),
        ("metrics.rules.disabled", ["EstaStragglers"], f"{ALERTS} EstaStragglers", None),
    ]),
    "traces": (CPU, {}, [
        row for main in (SERVING, TRAINING) for row in (
            ("telemetry.otlpEndpoint", "http://c:4317", f"{main} env OTEL_EXPORTER_OTLP_ENDPOINT value", "http://c:4317"),
            ("telemetry.samplingRatio", 0.5, f"{main} env OTEL_TRACES_SAMPLER_ARG value", "0.5"),
            ("telemetry.metricsIntervalMs", 7000, f"{main} env OTEL_METRIC_EXPORT_INTERVAL value", "7000"),
            ("telemetry.resourceAttributes", {"a": "b"}, f"{main} env OTEL_RESOURCE_ATTRIBUTES value", re.compile("a=b,.*k8s.pod.name=.*")),
        )
    ]),
    "the page outside": (CPU, {}, [
        ("ingress.enabled", True, "Ingress spec rules 0 http paths 0 backend", {"service": {"name": "esta", "port": {"name": "http"}}}),
        ("ingress.className", "nginx", "Ingress spec ingressClassName", "nginx"),
        ("ingress.host", "h.example", "Ingress spec rules 0 host", "h.example"),
        ("ingress.tlsSecret", "s", "Ingress spec tls", [{"hosts": ["h.example"], "secretName": "s"}]),
        ("ingress.annotations", {"m": "n"}, f"Ingress {NOTES} m", "n"),
    ]),
}
