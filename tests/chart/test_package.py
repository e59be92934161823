"""What people get: the package, files given on the command line, and the notes after an install."""

import json
import re
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

import helm_python

from checks import flaws, forbidden
from engines import CHART, NAMESPACE, NEWEST, OLDEST, RELEASE, ROOT, SCENARIOS, by_key, documents, helm3, job_file, job_files, merged, named, overlay, pods_of, render

CPU, GPU, JOBSET, MULTI = SCENARIOS


def notes(scenario, change=None):
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render(merged(scenario, change), name=RELEASE, namespace=NAMESPACE)
    return next(text for name, text in files.items() if name.endswith("NOTES.txt"))


class Package(unittest.TestCase):
    def test_it_holds_what_renders_and_nothing_of_the_tests(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["helm", "package", str(CHART), "--destination", folder], check=True, capture_output=True)
            (archive,) = Path(folder).glob("esta-*.tgz")
            names = {name.removeprefix("esta/") for name in tarfile.open(archive).getnames()}
            self.assertLessEqual({"Chart.yaml", "values.schema.json", "README.md", "files/dashboard.json"}, names)
            self.assertFalse({name for name in names if name.startswith("ci/") or "tmpl" in name})
            done = subprocess.run(
                ["helm", "template", RELEASE, str(archive), "-n", NAMESPACE, "--kube-version", NEWEST, "-f", str(MULTI)],
                check=True,
                capture_output=True,
                text=True,
            )
            self.assertEqual(by_key(documents(done.stdout)), by_key(render(MULTI)))

    def test_a_job_file_of_the_repository_is_taken_as_it_is(self):
        command = ["helm", "template", RELEASE, str(CHART), "--kube-version", NEWEST]
        command += ["--set-file", f"jobFile={ROOT}/configs/qwen3-0.6b-1.7b-alpaca.yaml"]
        command += ["--set-file", f"jobFiles._base_language\\.yaml={ROOT}/configs/_base_language.yaml"]
        found = documents(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        job = job_file(found)
        self.assertEqual((job["base"], job["name"]), ("_base_language.yaml", "qwen3-0.6b-1.7b-alpaca"))
        files = job_files(found)
        self.assertEqual(files["_base_language.yaml"], (ROOT / "configs/_base_language.yaml").read_text())

    def test_numbers_of_a_job_survive(self):
        values = merged(CPU, {"job": {"seed": 9007199254740992, "train": {"learning_rate": 1.5e-7, "max_steps": 1000000, "weight_decay": 0}}})
        for found in (helm3(values), render(None, values)):
            job = job_file(found)
            self.assertEqual(job["seed"], 9007199254740992)
            self.assertEqual(job["train"]["learning_rate"], 1.5e-7)
            self.assertEqual(job["train"]["max_steps"], 1000000)
            self.assertEqual(job["budgets"]["edges"][0], 300000)


class Everything(unittest.TestCase):
    """All that can be switched on at once."""

    extras = {
        "extraEnv": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "extraEnvFrom": [{"configMapRef": {"name": "c"}}],
        "extraVolumes": [{"name": "v", "hostPath": {"path": "/v"}}],
        "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
        "initContainers": [{"name": "first", "image": "first"}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "nodeSelector": {"e": "f"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "p",
        "serviceAccount": {"annotations": {"g": "h"}},
        "extraArgs": ["--help"],
    }
    change = {
        "coordinator": extras | {"extraContainers": [{"name": "side", "image": "side"}], "maxConnections": 9, "service": {"type": "LoadBalancer"}},
        "workers": extras
        | {
            "preStopSeconds": 5,
            "schedulerName": "other",
            "ttlSecondsAfterFinished": 9,
            "activeDeadlineSeconds": 99,
            "annotations": {"i": "j"},
            "labels": {"k": "l"},
            "network": {"glooInterface": "eth1"},
        },
        "cache": {"existingClaim": "cache"},
        "networkPolicy": {
            "grpcFrom": [{"podSelector": {}}],
            "nodeCIDRs": ["10.0.0.0/8"],
            "coordinatorEgress": [{"ports": [{"port": 443}]}],
            "workerEgress": [{"ports": [{"port": 443}]}],
        },
        "auth": {"tokens": {"existingSecret": "t", "viewerSecret": "v"}},
        "listenAddress": "[::]",
    }

    def test_it_is_valid_and_alike(self):
        values = merged(MULTI, self.change)
        for version in (OLDEST, NEWEST):
            self.assertEqual(flaws(helm3(values, kube=version), version), [])
        self.assertEqual(by_key(helm3(values)), by_key(render(MULTI, self.change)))
        jobset = overlay(self.change, {"workers": {"kind": "JobSet", "jobSet": {"groups": 2}}})
        self.assertEqual(flaws(render(MULTI, jobset), NEWEST), [])

    def test_images_users_and_ports_are_those_of_the_dockerfile(self):
        dockerfile = (ROOT / "Dockerfile").read_text()
        for scenario in (CPU, GPU):
            for name, pod in pods_of(render(scenario)):
                container = pod["containers"][0]
                self.assertIn(f"--tag {container['image']}", dockerfile)
                self.assertIn(f"/opt/esta/bin/{container['command'][0]}", dockerfile)
                context = pod["securityContext"]
                self.assertIn(f"USER {context['runAsUser']}:{context['runAsGroup']}", dockerfile)
                # Further workers of a pod follow on the port of the first.
                ports = container.get("ports", [])
                ports = " ".join(str(port["containerPort"]) for port in ports if not port["name"].startswith("http-"))
                self.assertIn(f"EXPOSE {ports}", dockerfile)

    def test_every_variable_is_one_that_a_program_reads(self):
        source = "".join(path.read_text() for folder in ("coordinator", "worker") for path in (ROOT / folder).rglob("*.rs"))
        given = set()
        for scenario in SCENARIOS:
            for _, pod in pods_of(render(scenario)):
                given |= {variable["name"] for variable in pod["containers"][0]["env"] if variable["name"].startswith("ESTA_")}
        known = set(re.findall(r'"(ESTA_[A-Z_]+)"', source))
        self.assertEqual(given - known, set())


class Notes(unittest.TestCase):
    def test_the_patch_in_them_scales_the_job(self):
        before = render(CPU)
        said = notes(CPU)
        command = re.search(r"patch job (\S+) --type merge -p '(.+)'", said)
        job = named(before, "Job", command[1])
        patched = overlay(job, json.loads(command[2].replace("N", "7")))
        self.assertEqual(forbidden([job], [patched]), [])
        self.assertEqual(patched, named(render(CPU, {"workers": {"replicas": 7}}), "Job"))

    def test_they_say_where_things_are(self):
        said = notes(MULTI)
        run = job_file(render(MULTI))["output_dir"]
        self.assertIn(f"results in {run}", said)
        self.assertIn("--coordinator https://localhost:7700", said)
        self.assertIn("--tls-key tls.key --token-file token", said)
        self.assertNotIn("WARNING", said)

    def test_certificates_of_ones_own_have_the_names_of_those_that_are_made(self):
        made = named(render(MULTI, release="NAME-esta", namespace="NAMESPACE"), "Certificate", "NAME-esta-coordinator-tls")["spec"]["dnsNames"]
        readme = (CHART / "README.md").read_text()
        listed = re.search(r"- \*\*Certificates\.\*\*(.*?)\n- \*\*", readme, re.DOTALL)[1]
        names = {name.replace("NAME-esta", "NAME") for name in made}
        self.assertEqual(set(re.findall(r"`([^`]+)`", listed)), names)
        # The one that people dial.
        self.assertIn("--coordinator https://localhost:7700", notes(MULTI))
        self.assertIn("localhost", names)

    def test_every_command_names_the_namespace(self):
        # In the README the namespace is made with the release.
        texts = {scenario.name: (notes(scenario), "-n train") for scenario in SCENARIOS}
        texts["README.md"] = ((CHART / "README.md").read_text(), "-n esta")
        for name, (text, place) in texts.items():
            commands = re.findall(r"^ *((?:helm|kubectl) .+)$", text.replace("\\\n", " "), re.MULTILINE)
            self.assertGreater(len(commands), 2)
            for command in commands:
                with self.subTest(name, command=command):
                    self.assertIn(f" {place} ", command)
                    if command.startswith("helm install"):
                        self.assertIn(" --create-namespace ", command)
                    if command.startswith("helm upgrade"):
                        self.assertIn(" --reuse-values ", command)

    def test_the_tests_they_name_are_there(self):
        for scenario in SCENARIOS:
            self.assertIn(f"helm test {RELEASE} -n {NAMESPACE} --logs", notes(scenario))
        self.assertNotIn("helm test", notes(CPU, {"test": {"enabled": False}}))

    def test_they_warn(self):
        said = notes(CPU, {"coordinator": {"linger": "10m"}})
        self.assertIn("neither certificates nor tokens are asked for", said)
        self.assertIn("coordinator.linger is 10m", said)
        self.assertIn("is not ReadWriteMany", said)
        self.assertNotIn("patch job", notes(JOBSET))
