"""README and schema are those of the values; the dashboard and the alerts name metrics that there are."""

import json
import re
import subprocess
import sys
import unittest
from pathlib import Path

from engines import CHART, ROOT, SCENARIOS, named, render

CPU, GPU, JOBSET, MULTI = SCENARIOS
METRICS = set((Path(__file__).parent / "metrics.txt").read_text().split())
NAME = re.compile(r"\b(?:esta|rpc)_[a-z_]+\b")
# Labels that begin as metrics do.
LABELS = {"esta_release", "rpc_method", "rpc_response_status_code"}


def metrics_in(query):
    """Names of metrics in a query, histograms by the name of the whole."""
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in NAME.findall(query)}
    return names - LABELS


def dashboard_of(documents):
    return json.loads(named(documents, "ConfigMap", "esta-dashboard")["data"]["esta.json"])


def queries_of(documents):
    return [target["expr"] for panel in dashboard_of(documents)["panels"] for target in panel.get("targets", [])]


class Generated(unittest.TestCase):
    def test_readme_and_schema_are_up_to_date(self):
        done = subprocess.run([sys.executable, str(ROOT / "scripts/chart-docs.py"), "--check"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_schema_is_closed_and_describes_every_value(self):
        def walk(schema, path):
            if "properties" in schema:
                self.assertFalse(schema["additionalProperties"], path)
                for name, below in schema["properties"].items():
                    walk(below, f"{path}.{name}")
            else:
                self.assertTrue(schema.get("description"), path)

        walk(json.loads((CHART / "values.schema.json").read_text()), "")

    def test_the_readme_names_every_scenario(self):
        readme = (CHART / "README.md").read_text()
        for scenario in SCENARIOS:
            self.assertIn(f"ci/{scenario.name}", readme)

    def test_the_readme_lists_every_alert(self):
        readme = (CHART / "README.md").read_text()
        for rule in named(render(MULTI), "PrometheusRule")["spec"]["groups"][0]["rules"]:
            self.assertIn(f"| `{rule['alert']}` | {rule['labels']['severity']} |", readme)

    def test_the_readme_lists_every_key_that_may_change(self):
        readme = (CHART / "README.md").read_text()
        template = (CHART / "templates/_job.tpl").read_text().split('define "esta.harmless" -}}\n')[1]
        for key in template.split("\n")[0].split():
            self.assertRegex(readme, rf"`(job\.)?{re.escape(key)}`")

    def test_hashes_are_counted(self):
        counts = {path.name: path.read_text().count("sha256sum") for path in (CHART / "templates").glob("*.tpl")}
        self.assertEqual({name: count for name, count in counts.items() if count}, {"_job.tpl": 2, "_workers.tpl": 2})
        # One text makes two of them, of which each has a job of its own.
        job = (CHART / "templates/_job.tpl").read_text()
        self.assertEqual(job.count('include "esta.hash"'), 2)
        self.assertIn("its three hashes", job)
        self.assertIn("Four hashes decide", (CHART / "README.md").read_text())

    def test_what_a_coordinator_s_readiness_means_is_what_the_program_says(self):
        source = (ROOT / "coordinator/src/rpc/service.rs").read_text()
        means = re.search(r"/// Whether this coordinator is of use: (.*)\n", source)[1]
        self.assertIn(f"`/readyz`: {means}", (CHART / "README.md").read_text())

    def test_nothing_of_the_tests_is_packaged(self):
        ignored = (CHART / ".helmignore").read_text().split("\n")
        self.assertLessEqual({"ci/", "README.tmpl.md"}, set(ignored))


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.dashboard = dashboard_of(render(MULTI))
        self.queries = queries_of(render(MULTI))

    def test_queries_name_only_metrics_that_there_are(self):
        for query in self.queries:
            self.assertTrue(metrics_in(query), query)
            self.assertLessEqual(metrics_in(query), METRICS, query)

    def test_every_metric_is_shown_or_watched(self):
        rules = named(render(MULTI), "PrometheusRule")["spec"]["groups"][0]["rules"]
        used = set().union(*(metrics_in(query) for query in self.queries + [rule["expr"] for rule in rules]))
        self.assertEqual(METRICS - used, set())

    def test_panels_do_not_overlap_and_have_ids_of_their_own(self):
        taken, ids = {}, set()
        for panel in self.dashboard["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            self.assertNotIn(panel["id"], ids)
            ids.add(panel["id"])
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} lies over {taken.get((x, y))}")
                    taken[x, y] = panel["title"]

    def test_a_sidecar_finds_it(self):
        config = named(render(MULTI), "ConfigMap", "esta-dashboard")
        self.assertEqual(config["metadata"]["labels"]["grafana_dashboard"], "1")
        self.assertEqual(config["metadata"]["annotations"], {"grafana_folder": "Training"})
        self.assertEqual(self.dashboard["uid"], "esta-run")


class Monitors(unittest.TestCase):
    def test_they_scrape_each_pod_once_and_by_the_release(self):
        documents = render(MULTI)
        labels = named(documents, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
        found = [
            d["metadata"]["name"]
            for d in documents
            if d["kind"] == "Service" and labels.items() <= d["metadata"]["labels"].items()
        ]
        self.assertEqual(found, ["esta-coordinators"])
        for kind, key in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
            endpoint = named(documents, kind)["spec"][key][0]
            self.assertEqual(endpoint["relabelings"][0]["targetLabel"], "esta_release")
            self.assertEqual(endpoint["port"], "http")
        self.assertEqual(named(render(GPU), "PodMonitor")["metadata"]["labels"]["release"], "prometheus")


if __name__ == "__main__":
    unittest.main()
