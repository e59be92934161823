"""What a harness is told of a rendered chart."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from engines import SCENARIOS, load
from rendered import expand

CPU, GPU, JOBSET, MULTI = SCENARIOS
HERE = Path(__file__).parent


def told(scenario, *args):
    command = [sys.executable, str(HERE / "rendered.py"), str(scenario), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {workload["kind"]: workload for workload in json.loads(done.stdout)}


class Rendered(unittest.TestCase):
    def test_variables_are_filled_in_as_kubernetes_does(self):
        self.assertEqual(expand("a $(B) $(C) $$(B)", {"B": "b"}), "a b $(C) $(B)")

    def test_commands_variables_files_and_probes_of_a_trial(self):
        found = told(CPU, "--index", "1", "--pod-ip", "127.0.0.3")
        coordinator, worker = found["coordinator"], found["worker"]
        self.assertIn("--workers=2", coordinator["args"])
        for advertised in ("--advertise=http://{}:7700", "--advertise-http=http://{}:7701"):
            self.assertIn(advertised.format("esta-coordinator-1.esta-coordinators.train.svc.cluster.local"), coordinator["args"])
        self.assertIn("max_steps: 3000", coordinator["files"]["/etc/esta/job/job.yaml"])
        self.assertEqual(coordinator["probes"]["readiness"]["path"], "/readyz")
        self.assertEqual(coordinator["probes"]["readiness"]["port"], 7701)
        self.assertEqual(coordinator["folders"]["/var/lib/esta"]["claim"], "esta-record")
        self.assertEqual((coordinator["pre_stop_seconds"], coordinator["grace_seconds"]), (2, 60))
        self.assertEqual(worker["env"]["ESTA_WORKER_HOST"], "127.0.0.3")
        self.assertEqual(worker["env"]["ESTA_WORKER_NAME"], f"{worker['name']}-1-abcde")
        self.assertEqual(worker["env"]["JOB_COMPLETION_INDEX"], "1")
        self.assertEqual((worker["pods"], worker["job"]["completions"]), (2, 2))
        self.assertEqual(found["status"]["args"], ["status"])

    def test_paths_and_addresses_can_be_moved(self):
        found = told(CPU, "--root", "/r", "--replace", "esta.train.svc.cluster.local:7700=127.0.0.1:9")
        coordinator = found["coordinator"]
        self.assertIn("--config=/r/etc/esta/job/job.yaml", coordinator["args"])
        self.assertIn("weights: /r/models/s", coordinator["files"]["/r/etc/esta/job/job.yaml"])
        self.assertIn("output_dir: /r/checkpoints/", coordinator["files"]["/r/etc/esta/job/job.yaml"])
        self.assertTrue(any(arg.startswith("--store=redb:/r/var/lib/esta/") for arg in coordinator["args"]))
        self.assertEqual(found["worker"]["env"]["ESTA_COORDINATOR"], "http://127.0.0.1:9")
        self.assertEqual(coordinator["probes"]["liveness"]["path"], "/healthz")

    def test_claims_can_lie_elsewhere_the_same_for_all_pods(self):
        found = told(CPU, "--root", "/r", "--claims", "/c", "--suffix", "00007")
        coordinator, worker = found["coordinator"], found["worker"]
        job = coordinator["files"]["/r/etc/esta/job/job.yaml"]
        # Coordinators have no mount for data, and their job names it.
        self.assertIn("weights: /c/models/s", job)
        self.assertIn("path: /c/data/t10k-images-idx3-ubyte.gz", job)
        self.assertEqual(worker["folders"]["/c/models"], {"claim": "esta-trial", "sub_path": "anchors", "read_only": True})
        self.assertEqual(worker["env"]["ESTA_CACHE"], "/r/cache")
        self.assertEqual(worker["pod"], f"{worker['name']}-0-00007")
        self.assertEqual(coordinator["min_ready_seconds"], 5)

    def test_values_can_stand_whole_in_place_of_a_scenario_s(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "values.yaml"
            path.write_text("job: {name: other}\n")
            job = told(CPU, "--instead", str(path))["coordinator"]["files"]["/etc/esta/job/job.yaml"]
        self.assertEqual(load(job), {"name": "other", "output_dir": load(job)["output_dir"]})

    def test_secrets_and_tokens_are_named(self):
        found = told(MULTI, "--root", "/r", "--set", "coordinator.replicas=2")
        self.assertEqual(found["coordinator"]["pods"], 2)
        self.assertEqual(found["coordinator"]["secrets_env"], ["esta-s3"])
        self.assertEqual(found["coordinator"]["secret_files"]["/r/etc/esta/tls/tls.key"], {"secret": "esta-coordinator-tls", "key": "tls.key"})
        names = found["coordinator"]["certificates"]["esta-coordinator-tls"]
        self.assertIn("esta.train.svc.cluster.local", names)
        self.assertIn("*.esta-coordinators.train.svc.cluster.local", names)
        self.assertEqual(found["worker"]["tokens"], {"/r/etc/esta/token/token": {"audience": "esta", "account": "esta-worker"}})
        self.assertIn("path: s3://esta/data/cub200/train", found["coordinator"]["files"]["/r/etc/esta/job/job.yaml"])

    def test_a_pod_of_a_jobset_has_the_name_of_its_job(self):
        worker = told(JOBSET, "--index", "6")["worker"]
        self.assertEqual(worker["pod"], f"{worker['name']}-workers-1-2-abcde")
        self.assertEqual((worker["env"]["JOB_COMPLETION_INDEX"], worker["pods"]), ("2", 16))
