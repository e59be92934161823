"""What the pods of every scenario are given and may do."""

import unittest

from engines import SCENARIOS, job_file, merged, named, pods_of, render, workers_of

CPU, GPU, JOBSET, MULTI = SCENARIOS


def container_of(pod):
    return pod["containers"][0]


def env_of(pod):
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container_of(pod)["env"]}


def worker(scenario, change=None):
    return workers_of(render(scenario, change))["template"]["spec"]


def coordinator(scenario, change=None):
    return named(render(scenario, change), "StatefulSet")["spec"]["template"]["spec"]


class Security(unittest.TestCase):
    def test_no_pod_has_a_right_that_it_does_not_need(self):
        for scenario in SCENARIOS:
            for name, pod in pods_of(render(scenario)):
                with self.subTest(scenario.name, pod=name):
                    self.assertFalse(pod["automountServiceAccountToken"])
                    self.assertFalse(pod["enableServiceLinks"])
                    self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                    self.assertGreater(pod["securityContext"]["runAsUser"], 0)
                    self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                    for container in pod["containers"]:
                        context = container["securityContext"]
                        self.assertTrue(context["readOnlyRootFilesystem"])
                        self.assertFalse(context["allowPrivilegeEscalation"])
                        self.assertEqual(context["capabilities"]["drop"], ["ALL"])
                        rdma = scenario == MULTI and container["name"] == "worker"
                        self.assertEqual(context["capabilities"].get("add"), ["IPC_LOCK"] if rdma else None)

    def test_what_programs_write_to_is_mounted(self):
        for scenario in SCENARIOS:
            for name, pod in pods_of(render(scenario)):
                mounts = {mount["mountPath"] for mount in container_of(pod).get("volumeMounts", [])}
                if "status" not in name:
                    self.assertLessEqual({"/tmp", "/cache"}, mounts)
                    self.assertEqual((env_of(pod)["HOME"], env_of(pod)["ESTA_CACHE"]), ("/tmp", "/cache"))
                claims = [v["persistentVolumeClaim"]["claimName"] for v in pod.get("volumes", []) if "persistentVolumeClaim" in v]
                self.assertEqual(len(claims), len(set(claims)), "a claim twice in one pod")

    def test_ids_can_be_left_to_the_platform(self):
        pod = coordinator(CPU, {"coordinator": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}})
        self.assertNotIn("runAsUser", pod["securityContext"])
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])

    def test_tokens_are_projected_for_the_audience_and_accounts_have_roles(self):
        documents = render(MULTI)
        env = env_of(named(documents, "StatefulSet")["spec"]["template"]["spec"])
        self.assertEqual(env["ESTA_TOKEN_AUDIENCE"], "esta")
        roles = env["ESTA_TOKEN_ROLE"].split(",")
        self.assertIn("system:serviceaccount:train:esta-worker=worker", roles)
        self.assertIn("system:serviceaccount:train:esta-viewer=viewer", roles)
        self.assertIn("system:serviceaccount:monitoring:dashboards=viewer", roles)
        for name, account in (("worker", "esta-worker"), ("status", "esta-viewer")):
            pod = workers_of(documents)["template"]["spec"] if name == "worker" else named(documents, "Pod")["spec"]
            self.assertEqual(pod["serviceAccountName"], account)
            named(documents, "ServiceAccount", account)
            token = next(v for v in pod["volumes"] if v["name"] == "token")["projected"]["sources"][0]["serviceAccountToken"]
            self.assertEqual((token["audience"], token["path"]), ("esta", "token"))
            self.assertEqual(env_of(pod)["ESTA_TOKEN_FILE"], "/etc/esta/token/token")
        jwks = named(documents, "ConfigMap", "esta-jwks")["data"]["jwks.json"]
        self.assertIn("RS256", jwks)

    def test_tls_is_mutual_and_names_match_what_is_dialled(self):
        documents = render(MULTI)
        names = named(documents, "Certificate", "esta-coordinator-tls")["spec"]["dnsNames"]
        dialled = env_of(workers_of(documents)["template"]["spec"])["ESTA_COORDINATOR"]
        self.assertEqual(dialled, "https://esta.train.svc.cluster.local:7700")
        self.assertIn("esta.train.svc.cluster.local", names)
        self.assertIn("*.esta-coordinators.train.svc.cluster.local", names)
        server = env_of(named(documents, "StatefulSet")["spec"]["template"]["spec"])
        self.assertEqual(server["ESTA_TLS_CLIENT_CA"], "/etc/esta/tls/ca.crt")
        self.assertNotIn("ESTA_PLAIN_TEXT", server)
        self.assertEqual(named(documents, "Certificate", "esta-ca")["spec"]["isCA"], True)

    def test_an_issuer_that_is_there_makes_no_authority(self):
        change = {"tls": {"certManager": {"issuerRef": {"name": "corporate", "kind": "ClusterIssuer"}}}}
        documents = render(MULTI, change)
        self.assertFalse([d for d in documents if d["kind"] == "Issuer"])
        reference = named(documents, "Certificate", "esta-worker-tls")["spec"]["issuerRef"]
        self.assertEqual((reference["name"], reference["kind"]), ("corporate", "ClusterIssuer"))

    def test_without_mutual_tls_workers_are_given_no_key(self):
        change = {"tls": {"mutual": False, "workerSecret": None}}
        pod = worker(JOBSET, change)
        tls = next(v for v in pod["volumes"] if v["name"] == "tls")["secret"]
        self.assertEqual(tls["secretName"], "esta-coordinator-tls")
        self.assertEqual(tls["items"], [{"key": "ca.crt", "path": "ca.crt"}])
        self.assertNotIn("ESTA_TLS_KEY", env_of(pod))

    def test_tokens_over_plain_text_are_sent_only_where_that_was_asked_for(self):
        change = {"auth": {"overPlainText": True, "serviceAccountTokens": {"enabled": True, "jwks": "{}"}}}
        self.assertEqual(env_of(worker(CPU, change))["ESTA_PLAIN_TEXT"], "true")
        self.assertNotIn("ESTA_PLAIN_TEXT", env_of(worker(CPU)))

    def test_policies_let_in_whom_they_must(self):
        documents = render(MULTI)
        spec = named(documents, "NetworkPolicy", "esta-coordinator")["spec"]
        grpc = next(rule for rule in spec["ingress"] if rule["ports"][0]["port"] == 7700)
        components = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in grpc["from"]}
        self.assertEqual(components, {"worker", "test"})
        ports = {port["port"] for rule in spec["egress"] for port in rule.get("ports", [])}
        self.assertEqual(ports, {53, 5353, 2379, 4317, 7701, 9000})
        workers = named(documents, "NetworkPolicy", "esta-worker")["spec"]
        self.assertNotIn("ports", workers["ingress"][0])
        self.assertEqual(workers["egress"][0]["to"], workers["ingress"][0]["from"])

    def test_policies_let_names_be_asked_of_whoever_answers(self):
        # A node's own cache has an address of the node, and some clusters' pods listen on 5353.
        for document in render(MULTI):
            if document["kind"] == "NetworkPolicy":
                rule = next(rule for rule in document["spec"]["egress"] if {"protocol": "UDP", "port": 53} in rule.get("ports", []))
                self.assertNotIn("to", rule)
                self.assertIn({"protocol": "UDP", "port": 5353}, rule["ports"])

    def test_policies_let_coordinators_read_each_others_pages(self):
        spec = named(render(MULTI), "NetworkPolicy", "esta-coordinator")["spec"]
        page = [{"protocol": "TCP", "port": 7701}]
        own = [{"podSelector": {"matchLabels": named(render(MULTI), "StatefulSet")["spec"]["selector"]["matchLabels"]}}]
        self.assertIn({"from": own, "ports": page}, spec["ingress"])
        self.assertIn({"to": own, "ports": page}, spec["egress"])

    def test_policies_know_workers_on_the_nodes_network_by_address(self):
        documents = render(JOBSET)
        policies = [d for d in documents if d["kind"] == "NetworkPolicy"]
        self.assertEqual([p["metadata"]["name"] for p in policies], ["esta-coordinator"])
        self.assertIn({"ipBlock": {"cidr": "10.20.0.0/16"}}, policies[0]["spec"]["ingress"][0]["from"])


class Coordinators(unittest.TestCase):
    def test_one_keeps_its_record_on_a_claim_of_its_own(self):
        documents = render(CPU)
        claim = named(documents, "PersistentVolumeClaim", "esta-record")
        self.assertEqual(claim["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")
        self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteOnce"])
        pod = named(documents, "StatefulSet")["spec"]["template"]["spec"]
        run = job_file(documents)["output_dir"].rsplit("/", 1)[1]
        self.assertIn(f"--store=redb:/var/lib/esta/{run}.redb", container_of(pod)["args"])
        self.assertIn({"name": "record", "mountPath": "/var/lib/esta"}, container_of(pod)["volumeMounts"])

    def test_several_share_etcd_and_have_stable_names(self):
        documents = render(MULTI)
        stateful = named(documents, "StatefulSet")["spec"]
        args = container_of(stateful["template"]["spec"])["args"]
        run = job_file(documents)["output_dir"].rsplit("/", 1)[1]
        hosts = ",".join(f"etcd-{i}.etcd.etcd.svc" for i in range(3))
        self.assertIn(f"--store=etcds://{hosts}/esta/train/esta/{run}", args)
        self.assertIn("--advertise=https://$(POD_NAME).esta-coordinators.train.svc.cluster.local:7700", args)
        self.assertEqual(stateful["serviceName"], "esta-coordinators")
        headless = named(documents, "Service", "esta-coordinators")["spec"]
        self.assertEqual((headless["clusterIP"], headless["publishNotReadyAddresses"]), ("None", True))
        self.assertFalse([d for d in documents if d["kind"] == "PersistentVolumeClaim"])

    def test_they_are_spread(self):
        constraints = {c["topologyKey"]: c["whenUnsatisfiable"] for c in coordinator(MULTI)["topologySpreadConstraints"]}
        expected = {"kubernetes.io/hostname": "DoNotSchedule", "topology.kubernetes.io/zone": "ScheduleAnyway"}
        self.assertEqual(constraints, expected)
        off = coordinator(MULTI, {"coordinator": {"spread": {"nodes": "none", "zones": "none"}}})
        self.assertNotIn("topologySpreadConstraints", off)

    def test_the_service_leads_to_coordinators_of_this_job_alone(self):
        documents = render(CPU)
        selector = named(documents, "Service", "esta")["spec"]["selector"]
        labels = named(documents, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(selector, labels)
        governing = named(documents, "Service", "esta-coordinators")["spec"]["selector"]
        self.assertEqual(governing, named(documents, "StatefulSet")["spec"]["selector"]["matchLabels"])

    def test_no_budget_blocks_a_drain(self):
        for scenario in SCENARIOS:
            documents = render(scenario)
            budgets = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "PodDisruptionBudget"}
            self.assertEqual(budgets["esta-coordinator"]["maxUnavailable"], 1)
            self.assertNotIn("minAvailable", budgets["esta-coordinator"])
            replicas = merged(scenario)["workers"].get("replicas", 1)
            self.assertEqual("esta-worker" in budgets, replicas > 1)
            if replicas > 1:
                self.assertLess(budgets["esta-worker"]["minAvailable"], replicas)
            self.assertTrue(all(budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for budget in budgets.values()))
        alone = render(CPU, {"workers": {"replicas": 1}})
        self.assertEqual([d["metadata"]["name"] for d in alone if d["kind"] == "PodDisruptionBudget"], ["esta-coordinator"])

    def test_they_are_asked_on_the_page_of_their_own_port(self):
        for scenario in SCENARIOS:
            container = container_of(coordinator(scenario))
            self.assertEqual({p["name"]: p["containerPort"] for p in container["ports"]}, {"grpc": 7700, "http": 7701})
            self.assertEqual(env_of(coordinator(scenario))["ESTA_HTTP"], "0.0.0.0:7701")
            for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
                self.assertEqual(container[f"{probe}Probe"]["httpGet"], {"path": path, "port": "http"})
            self.assertEqual(container["lifecycle"]["preStop"], {"sleep": {"seconds": 2}})

    def test_what_a_user_adds_stands_beside_what_the_chart_gives(self):
        label = {"podLabels": {"app.kubernetes.io/component": "not this"}}
        change = {
            "coordinator": label,
            "workers": label,
            "commonLabels": {"cost": "7", "app.kubernetes.io/instance": "not this"},
            "commonAnnotations": {"owner": "z"},
            "extraObjects": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x", "namespace": "train"}},
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y, namespace: train}",
            ],
        }
        for scenario in SCENARIOS:
            documents = render(scenario, change)
            for template, component in ((named(documents, "StatefulSet")["spec"]["template"], "coordinator"), (workers_of(documents)["template"], "worker")):
                self.assertEqual(template["metadata"]["labels"]["app.kubernetes.io/component"], component)
            added = [named(documents, "ConfigMap", name) for name in ("esta-x", "y")]
            for document in documents:
                if document not in added:
                    with self.subTest(scenario.name, kind=document["kind"], name=document["metadata"]["name"]):
                        metadata = document["metadata"]
                        self.assertEqual((metadata["labels"]["cost"], metadata["annotations"]["owner"]), ("7", "z"))
                        self.assertEqual(metadata["labels"]["app.kubernetes.io/instance"], "esta")


class Workers(unittest.TestCase):
    def test_their_job_is_elastic_and_judges_exit_codes(self):
        for scenario in SCENARIOS:
            job = workers_of(render(scenario))
            self.assertEqual(job["completionMode"], "Indexed")
            self.assertEqual(job["parallelism"], job["completions"])
            self.assertEqual(job["podReplacementPolicy"], "Failed")
            self.assertEqual(job["template"]["spec"]["restartPolicy"], "Never")
            disruption, drained, final, of_one = job["podFailurePolicy"]["rules"]
            self.assertEqual(disruption["onPodConditions"], [{"type": "DisruptionTarget", "status": "True"}])
            self.assertEqual((disruption["action"], drained["action"]), ("Ignore", "Ignore"))
            # A worker that is outvoted, or has other data, ends its own place and not the run of the others.
            self.assertEqual((final["action"], final["onExitCodes"]["values"]), ("FailJob", [2]))
            self.assertEqual((of_one["action"], of_one["onExitCodes"]["values"]), ("FailIndex", [3, 5, 7, 8]))
            # Which Kubernetes takes only beside this.
            self.assertGreaterEqual(job["backoffLimitPerIndex"], 0)
            code = env_of(job["template"]["spec"])["ESTA_DRAINED_EXIT_CODE"]
            self.assertEqual(drained["onExitCodes"]["values"], [int(code)])

    def test_those_of_a_job_have_stable_names(self):
        for scenario in (CPU, GPU, MULTI):
            with self.subTest(scenario.name):
                documents = render(scenario)
                service = named(documents, "Service", "esta-workers")["spec"]
                self.assertEqual((service["clusterIP"], service["publishNotReadyAddresses"]), ("None", True))
                template = named(documents, "Job")["spec"]["template"]
                self.assertEqual(template["spec"]["subdomain"], "esta-workers")
                # Workers of every Job of the release, and no other pods.
                own = {"name": "esta", "instance": "esta", "component": "worker"}
                self.assertEqual(service["selector"], {f"app.kubernetes.io/{key}": value for key, value in own.items()})
                self.assertLessEqual(service["selector"].items(), template["metadata"]["labels"].items())

    def test_they_are_asked_on_the_page_of_their_own_port(self):
        of_each = {f"http-{number}": 7703 + number for number in range(8)}
        for scenario, further in ((CPU, {}), (GPU, of_each), (MULTI, {})):
            pod = worker(scenario)
            container = container_of(pod)
            self.assertEqual({p["name"]: p["containerPort"] for p in container["ports"]}, {"http": 7702} | further)
            self.assertEqual(env_of(pod)["ESTA_HTTP"], "0.0.0.0:7702")
            for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
                self.assertEqual(container[f"{probe}Probe"]["httpGet"], {"path": path, "port": "http"})
            # Nothing but its program's own order to stop.
            self.assertNotIn("lifecycle", container)

    def test_they_need_an_address_and_nothing_else_of_the_job(self):
        pod = worker(CPU)
        env = env_of(pod)
        self.assertEqual(container_of(pod)["command"], ["esta-worker"])
        self.assertEqual(container_of(pod)["args"], ["train", "--device=cpu", "--reconnect-budget=600"])
        self.assertEqual(env["ESTA_COORDINATOR"], "http://esta.train.svc.cluster.local:7700")
        self.assertEqual(env["ESTA_WORKER_NAME"], {"fieldRef": {"fieldPath": "metadata.name"}})
        self.assertEqual(env["ESTA_WORKER_NODE"], {"fieldRef": {"fieldPath": "spec.nodeName"}})
        self.assertEqual(env["ESTA_WORKER_HOST"], {"fieldRef": {"fieldPath": "status.podIP"}})
        self.assertFalse([v for v in pod["volumes"] if "configMap" in v])

    def test_a_gpu_brings_its_resource_toleration_device_and_image(self):
        pod = worker(GPU)
        self.assertIn("--device=cuda", container_of(pod)["args"])
        self.assertEqual(container_of(pod)["image"], "esta-worker:0.1.0-cuda")
        for side in ("limits", "requests"):
            self.assertEqual(container_of(pod)["resources"][side]["nvidia.com/gpu"], 8)
        self.assertIn({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, pod["tolerations"])
        self.assertEqual((pod["runtimeClassName"], pod["priorityClassName"]), ("nvidia", "training"))
        self.assertEqual(container_of(pod)["envFrom"], [{"secretRef": {"name": "hub-token", "optional": True}}])
        cpu = worker(CPU)
        self.assertEqual(container_of(cpu)["image"], "esta-worker:0.1.0-cpu")
        self.assertNotIn("tolerations", cpu)
        slice_ = container_of(worker(GPU, {"workers": {"gpu": {"count": 1, "resource": "nvidia.com/mig-3g.40gb"}}}))
        self.assertEqual(slice_["resources"]["limits"]["nvidia.com/mig-3g.40gb"], 1)

    def test_every_gpu_of_a_pod_has_a_worker(self):
        self.assertIn("--processes=8", container_of(worker(GPU))["args"])
        for count in (0, 1):
            self.assertFalse([a for a in container_of(worker(GPU, {"workers": {"gpu": {"count": count}}}))["args"] if "processes" in a])
        for replicas, count, expected in ((1, 8, "8"), (3, 2, "6"), (5, 0, "5")):
            change = {"workers": {"replicas": replicas, "gpu": {"count": count}}}
            found = render(GPU, change)
            self.assertEqual(named(found, "ConfigMap", "esta-size")["data"], {"workers": expected})
            rules = [rule for group in named(found, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
            missing = next(rule for rule in rules if rule.get("alert") == "EstaWorkersMissing")
            self.assertIn(f"\n< {expected}\n", missing["expr"])
            scraped = [e["port"] for e in named(found, "PodMonitor")["spec"]["podMetricsEndpoints"]]
            offered = [p["name"] for p in container_of(worker(GPU, change))["ports"]]
            # The first of several asks for those that follow it.
            self.assertEqual(scraped, offered[1:] or offered)
            self.assertEqual(len(scraped), max(1, count))

    def test_shared_memory_is_memory(self):
        for scenario, size in ((CPU, "256Mi"), (GPU, "32Gi")):
            volume = next(v for v in worker(scenario)["volumes"] if v["name"] == "shm")
            self.assertEqual(volume["emptyDir"], {"medium": "Memory", "sizeLimit": size})
            self.assertIn({"name": "shm", "mountPath": "/dev/shm"}, container_of(worker(scenario))["volumeMounts"])

    def test_networks_are_chosen_by_interface_device_and_host(self):
        pod = worker(MULTI, {"workers": {"rdma": {"networks": "roce"}}})
        env = env_of(pod)
        self.assertEqual((env["NCCL_SOCKET_IFNAME"], env["NCCL_IB_HCA"], env["NCCL_IB_GID_INDEX"]), ("eth0", "mlx5_0,mlx5_1", "3"))
        self.assertEqual(container_of(pod)["resources"]["limits"]["rdma/hca_shared_devices_a"], 1)
        template = workers_of(render(MULTI, {"workers": {"rdma": {"networks": "roce"}}}))["template"]
        self.assertEqual(template["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"], "roce")
        host = worker(JOBSET)
        self.assertEqual((host["hostNetwork"], host["dnsPolicy"]), (True, "ClusterFirstWithHostNet"))
        self.assertEqual(env_of(host)["GLOO_SOCKET_IFNAME"], "bond0")
        self.assertNotIn("ESTA_WORKER_HOST", env_of(host))
        self.assertNotIn("ports", container_of(host))
        self.assertNotIn("livenessProbe", container_of(host))

    def test_they_are_packed(self):
        near = worker(MULTI)["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual([(t["weight"], t["podAffinityTerm"]["topologyKey"]) for t in near], [(100, "kubernetes.io/hostname"), (70, "topology.kubernetes.io/zone")])
        packed = {"packing": {"mode": "required", "topologyKeys": ["kubernetes.io/hostname"]}}
        must = worker(GPU, {"workers": packed})["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual([t["topologyKey"] for t in must], ["kubernetes.io/hostname"])
        self.assertNotIn("affinity", worker(JOBSET))
        own = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
        both = worker(GPU, {"workers": {"affinity": own}})["affinity"]
        self.assertEqual(set(both), {"nodeAffinity", "podAffinity"})

    def test_they_have_the_time_to_drain(self):
        for scenario in SCENARIOS:
            self.assertGreater(worker(scenario)["terminationGracePeriodSeconds"], 300)

    def test_a_jobset_has_a_job_for_each_node(self):
        documents = render(JOBSET)
        jobset = named(documents, "JobSet")["spec"]
        replicated = jobset["replicatedJobs"][0]
        self.assertEqual((replicated["replicas"], replicated["template"]["spec"]["completions"]), (4, 4))
        annotations = replicated["template"]["metadata"]["annotations"]
        self.assertEqual(annotations, {"alpha.jobset.sigs.k8s.io/exclusive-topology": "kubernetes.io/hostname"})
        self.assertEqual(jobset["failurePolicy"]["rules"][0]["action"], "FailJobSet")
        self.assertEqual(named(documents, "ConfigMap", "esta-size")["data"], {"workers": "12"})
        self.assertFalse([d for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == "esta-workers"])
        self.assertEqual(jobset["network"]["subdomain"], "esta-workers")

    def test_kueue_finds_its_queue_and_nothing_undoes_its_suspension(self):
        job = named(render(MULTI), "Job")
        self.assertEqual(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "training")
        self.assertEqual(job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"], "high")
        self.assertNotIn("suspend", job["spec"])
        self.assertNotIn("kueue.x-k8s.io/queue-name", job["spec"]["template"]["metadata"]["labels"])
        held = {"workers": {"suspend": True}}
        self.assertTrue(named(render(CPU, held), "Job")["spec"]["suspend"])
        self.assertTrue(named(render(JOBSET, held), "JobSet")["spec"]["suspend"])

    def test_places_are_claims_or_object_storage(self):
        documents = render(CPU)
        job = job_file(documents)
        self.assertEqual(job["family"]["anchors"][0]["weights"], "/models/s")
        self.assertEqual(job["data"]["train"]["path"], "/data/t10k-images-idx3-ubyte.gz")
        self.assertTrue(job["output_dir"].startswith("/checkpoints/quickstart-"))
        mounts = {m["mountPath"]: m for m in container_of(workers_of(documents)["template"]["spec"])["volumeMounts"]}
        self.assertEqual((mounts["/models"]["subPath"], mounts["/data"]["subPath"]), ("anchors", "fashion-mnist"))
        self.assertTrue(mounts["/data"]["readOnly"])
        self.assertNotIn("readOnly", mounts["/checkpoints"])
        server = {m["mountPath"] for m in container_of(named(documents, "StatefulSet")["spec"]["template"]["spec"])["volumeMounts"]}
        self.assertLessEqual({"/checkpoints", "/models"}, server)
        far = render(MULTI)
        self.assertTrue(job_file(far)["output_dir"].startswith("s3://esta/runs/cub200-"))
        self.assertTrue(job_file(far)["data"]["train"]["path"].startswith("s3://esta/data/"))
        for pod in (workers_of(far)["template"]["spec"], named(far, "StatefulSet")["spec"]["template"]["spec"]):
            self.assertIn({"secretRef": {"name": "esta-s3"}}, container_of(pod)["envFrom"])
            self.assertEqual(env_of(pod)["AWS_ENDPOINT_URL"], "https://minio.storage.svc:9000")
            self.assertFalse([v for v in pod["volumes"] if "persistentVolumeClaim" in v])

    def test_claims_that_are_made_are_kept(self):
        change = {"models": {"claim": {"existing": None, "create": True, "subPath": None}}}
        claims = [d for d in render(CPU, change) if d["kind"] == "PersistentVolumeClaim"]
        self.assertEqual({c["metadata"]["name"] for c in claims}, {"esta-record", "esta-checkpoints", "esta-models"})
        for claim in claims:
            self.assertEqual(claim["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")

    def test_an_endpoint_without_tls_is_allowed_by_name(self):
        env = env_of(worker(MULTI, {"s3": {"endpoint": "http://minio:9000", "virtualHosted": True}}))
        self.assertEqual((env["AWS_ALLOW_HTTP"], env["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"]), ("true", "true"))

    def test_traces_carry_where_they_come_from(self):
        env = env_of(worker(MULTI, {"telemetry": {"samplingRatio": 1, "metricsIntervalMs": 5000000}}))
        self.assertEqual(env["OTEL_SERVICE_NAME"], "esta-worker")
        self.assertEqual(env["OTEL_TRACES_SAMPLER_ARG"], "1")
        self.assertEqual(env["OTEL_METRIC_EXPORT_INTERVAL"], "5000000")
        self.assertIn("k8s.pod.name=$(POD_NAME)", env["OTEL_RESOURCE_ATTRIBUTES"])
        self.assertIn("deployment.environment.name=production", env["OTEL_RESOURCE_ATTRIBUTES"])
        self.assertNotIn("OTEL_EXPORTER_OTLP_ENDPOINT", env_of(worker(CPU)))

    def test_images_are_named_by_registry_tag_or_digest(self):
        self.assertEqual(container_of(worker(MULTI))["image"], "registry.example.com/esta/esta-worker:0.1.0-cuda")
        self.assertEqual(worker(MULTI)["imagePullSecrets"], [{"name": "registry"}])
        digest = "sha256:" + "0" * 64
        self.assertEqual(container_of(coordinator(CPU, {"coordinator": {"image": {"digest": digest}}}))["image"], f"esta-coordinator@{digest}")


class Status(unittest.TestCase):
    def test_helm_test_asks_as_workers_do(self):
        for scenario in SCENARIOS:
            documents = render(scenario)
            pod = named(documents, "Pod")
            self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook"], "test")
            container = container_of(pod["spec"])
            self.assertEqual(container["command"] + container["args"], ["esta-coordinator", "status"])
            workers = env_of(workers_of(documents)["template"]["spec"])
            asked = env_of(pod["spec"])
            self.assertEqual(asked, {name: workers[name] for name in asked})

    def test_there_is_none_where_it_has_nothing_to_show(self):
        documents = render(JOBSET, {"auth": {"tokens": {"viewerSecret": None}}})
        self.assertFalse([d for d in documents if d["kind"] == "Pod"])


if __name__ == "__main__":
    unittest.main()
