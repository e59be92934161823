"""Upgrades change no field that cannot change, start again what has to, and go on with the record where they may."""

import unittest

from checks import forbidden
from engines import ROOT, SCENARIOS, job_file, merged, named, render

CPU, GPU, JOBSET, MULTI = SCENARIOS
NEW_IMAGES = {"coordinator": {"image": {"tag": "0.2.0"}}, "workers": {"image": {"tag": "0.2.0-cuda"}}}


def facts(documents):
    """What tells runs and workers apart."""
    workers = next(d for d in documents if d["kind"] in ("Job", "JobSet"))
    stateful = named(documents, "StatefulSet")["spec"]["template"]
    store = next(arg for arg in stateful["spec"]["containers"][0]["args"] if arg.startswith("--store="))
    return {
        "workers": workers["metadata"]["name"],
        "record": store,
        "folder": job_file(documents)["output_dir"],
        "job": stateful["metadata"]["labels"]["esta/job"],
        "coordinators": stateful,
    }


class Upgrades(unittest.TestCase):
    def upgrade(self, scenario, change, same):
        """Renders before and after, and checks which of the facts stay."""
        before, after = render(scenario), render(scenario, change)
        self.assertEqual(forbidden(before, after), [])
        old, new = facts(before), facts(after)
        self.assertEqual({name for name in old if old[name] == new[name]}, set(same.split()))
        return before, after

    def test_a_new_image_goes_on_with_the_record_and_other_workers(self):
        for scenario in SCENARIOS:
            with self.subTest(scenario.name):
                self.upgrade(scenario, NEW_IMAGES, "record folder job")

    def test_another_learning_rate_is_another_run(self):
        for scenario in (CPU, GPU, MULTI):
            with self.subTest(scenario.name):
                self.upgrade(scenario, {"job": {"train": {"learning_rate": 1e-2}}}, "")
        with self.subTest(JOBSET.name):
            text = merged(JOBSET)["jobFile"]
            self.assertIn("learning_rate: 1e-4", text)
            self.upgrade(JOBSET, {"jobFile": text.replace("learning_rate: 1e-4", "learning_rate: 1e-2")}, "")

    def test_another_number_of_workers_patches_the_same_job_and_starts_nothing_again(self):
        for scenario, each in ((CPU, 1), (GPU, 8), (MULTI, 1)):
            with self.subTest(scenario.name):
                before, after = self.upgrade(scenario, {"workers": {"replicas": 12}}, "workers record folder job coordinators")
                old, new = named(before, "Job")["spec"], named(after, "Job")["spec"]
                self.assertEqual((new["parallelism"], new["completions"]), (12, 12))
                self.assertEqual({k for k in old if old[k] != new[k]}, {"parallelism", "completions"})
                self.assertEqual(named(after, "ConfigMap", "esta-size")["data"], {"workers": str(12 * each)})

    def test_another_number_of_workers_is_another_jobset(self):
        self.upgrade(JOBSET, {"workers": {"replicas": 12}}, "record folder job coordinators")

    def test_timeouts_start_coordinators_again_and_nothing_else(self):
        self.upgrade(CPU, {"job": {"timeouts": {"reconnect": 90.0}}}, "workers record folder job")

    def test_what_no_number_depends_on_goes_on_with_the_record_and_other_workers(self):
        for key, value in (("palette", {"rule": "loss"}), ("train", {"save_steps": 500}), ("eval", {"batch_size": 100}), ("data", {"loader_threads": 2})):
            with self.subTest(key):
                self.upgrade(CPU, {"job": {key: value}}, "record folder")

    def test_another_attempt_of_the_run_begins_anew(self):
        self.upgrade(CPU, {"run": {"attempt": 1}}, "")

    def test_another_attempt_of_the_workers_is_another_job_of_the_same_run(self):
        """Coordinators begin again as well: one that shows a failed run turns workers away."""
        self.upgrade(CPU, {"workers": {"attempt": 1}}, "record folder job")

    def test_another_base_is_another_run(self):
        changed = merged(GPU)["jobFiles"]["base.yaml"].replace("3e-4", "1e-4")
        self.upgrade(GPU, {"jobFiles": {"base.yaml": changed}}, "")

    def test_models_in_another_place_are_another_run(self):
        # The record compares paths, too.
        self.upgrade(CPU, {"models": {"mountPath": "/anchors"}}, "")

    def test_another_store_is_another_run(self):
        # The record begins anew there: a folder or workers of the old one would belong to none.
        etcd = {"kind": "etcd", "etcd": {"endpoints": ["etcd"]}}
        for scenario, store in ((CPU, etcd), (CPU, {"redb": {"existingClaim": "mine"}}), (MULTI, {"etcd": {"prefix": "elsewhere"}})):
            with self.subTest(scenario.name, store=store):
                self.upgrade(scenario, {"store": store}, "")

    def test_other_ways_to_the_same_store_go_on_with_the_record(self):
        one = {"etcd": {"endpoints": ["etcd-3.etcd.etcd.svc"]}}
        _, after = self.upgrade(MULTI, {"store": one}, "workers folder job")
        self.assertIn("etcds://etcd-3.etcd.etcd.svc/esta/train/esta/cub200-", facts(after)["record"])
        plain = {"etcd": {"tls": {"enabled": False, "caSecret": "", "clientSecret": ""}}}
        self.upgrade(MULTI, {"store": plain}, "workers folder job")
        # The defaults, said.
        self.upgrade(MULTI, {"store": {"etcd": {"prefix": "/esta/train/esta/"}}}, "workers record folder job coordinators")

    def test_deadlines_suspension_and_labels_patch_the_same_job(self):
        change = {"workers": {"activeDeadlineSeconds": 9, "suspend": True, "ttlSecondsAfterFinished": 60, "labels": {"a": "b"}}}
        self.upgrade(CPU, change, "workers record folder job coordinators")

    def test_a_new_version_of_the_chart_starts_no_worker_again(self):
        documents = render(CPU)
        for kind in ("StatefulSet", "Job"):
            labels = named(documents, kind)["spec"]["template"]["metadata"]["labels"]
            self.assertFalse([name for name in labels if name.startswith("helm.sh") or name.endswith("version")])

    def test_every_switch_leaves_the_statefulset_changeable(self):
        switches = {
            "more coordinators over etcd": {
                "coordinator": {"replicas": 3, "spread": {"nodes": "ScheduleAnyway"}},
                "store": {"kind": "etcd", "etcd": {"endpoints": ["etcd"]}},
            },
            "object storage": {"checkpoints": {"s3": "s3://bucket/runs"}},
            "TLS": {"tls": {"enabled": True, "certManager": {"enabled": True}}},
            "policies": {"networkPolicy": {"enabled": True}},
            "a larger disk": {"store": {"redb": {"size": "20Gi"}}},
            "a JobSet": {"workers": {"kind": "JobSet"}},
            "GPUs": {"workers": {"gpu": {"count": 1}}},
            "no metrics of workers": {"workers": {"http": {"enabled": False}}},
        }
        for name, change in switches.items():
            with self.subTest(name):
                self.assertEqual(forbidden(render(CPU), render(CPU, change)), [])

    def test_the_judge_sees_a_forbidden_change(self):
        before = render(CPU)
        after = render(CPU)
        named(after, "Job")["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        named(after, "StatefulSet")["spec"]["serviceName"] = "other"
        named(after, "Job")["spec"]["completions"] = 7
        said = " ".join(forbidden(before, after))
        for field in ("template", "serviceName", "completions without parallelism"):
            self.assertIn(field, said)

    def test_a_job_is_the_same_as_values_and_as_a_file(self):
        import yaml

        values = merged(CPU)
        as_file = {**values, "job": {}, "jobFile": yaml.safe_dump(values["job"], sort_keys=False)}
        self.assertEqual(facts(render(None, values)), facts(render(None, as_file)))


class Rule(unittest.TestCase):
    def chart_list(self, name):
        text = (ROOT / "charts/esta/templates").joinpath("_job.tpl" if name == "esta.harmless" else "_validate.tpl").read_text()
        return text.split(f'define "{name}" -}}}}\n')[1].split("\n")[0].split()

    def test_the_keys_that_may_change_are_those_of_the_record(self):
        source = (ROOT / "coordinator/src/store/sameness.rs").read_text()
        listed = source.split("const HARMLESS: &[&str] = &[")[1].split("];")[0]
        known = {line.strip().strip('",') for line in listed.splitlines() if line.strip()}
        # The chart chooses output_dir, a name is a part of every path, and a file's recipe decides other keys.
        self.assertEqual(set(self.chart_list("esta.harmless")), known - {"name", "output_dir", "recipe"})

    def test_the_keys_of_a_job_are_those_of_the_engine(self):
        source = (ROOT / "coordinator/engine/src/spec.rs").read_text()
        fields = source.split("pub struct JobSpec {")[1].split("\n}")[0]
        known = {line.split("pub ")[1].split(":")[0] for line in fields.splitlines() if line.startswith("    pub ")}
        self.assertEqual(set(self.chart_list("esta.job.keys")), known | {"base"})
