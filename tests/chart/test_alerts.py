"""Alert rules: Prometheus accepts them, and they fire when they should and no sooner."""

import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

from engines import SCENARIOS, load, named, render
from test_documents import METRICS, metrics_in, queries_of

CPU, GPU, JOBSET, MULTI = SCENARIOS
HERE = Path(__file__).parent


def rules(scenario=MULTI, change=None):
    return named(render(scenario, change), "PrometheusRule")["spec"]["groups"][0]["rules"]


# What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "1h", "$namespace": "train|other", "$release": ".*"}


def filled_in(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def promtool(*args, folder):
    done = subprocess.run(["promtool", *args], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class Rules(unittest.TestCase):
    def test_each_says_how_bad_it_is_and_what_to_do(self):
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertRegex(rule["alert"], "^Esta[A-Za-z]+$")
                self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                self.assertEqual(rule["labels"]["team"], "research")
                annotations = rule["annotations"]
                self.assertTrue(annotations["summary"] and annotations["description"])
                self.assertEqual(annotations["runbook_url"], f"https://example.org/esta/operations.html#{rule['alert'].lower()}")

    def test_none_has_a_link_where_nobody_said_whereto(self):
        for rule in rules(GPU):
            self.assertEqual(set(rule["annotations"]), {"summary", "description"})

    def test_each_watches_this_release_and_metrics_that_there_are(self):
        for rule in rules():
            self.assertLessEqual(metrics_in(rule["expr"]), METRICS, rule["alert"])
            self.assertIn('namespace="train",esta_release="esta"', rule["expr"])

    def test_other_series_and_thresholds_can_be_named_and_alerts_left_out(self):
        change = {"metrics": {"rules": {"selector": 'job="mine"', "stalledFor": "2h", "disabled": ["EstaStragglers"]}}}
        changed = {rule["alert"]: rule for rule in rules(MULTI, change)}
        self.assertNotIn("EstaStragglers", changed)
        self.assertIn('esta_steps_committed_total{job="mine"}[2h]', changed["EstaRunStalled"]["expr"])

    def test_the_list_is_that_of_the_tests(self):
        tested = load((HERE / "alerts.yaml").read_text())
        named_there = {check["alertname"] for test in tested["tests"] for check in test["alert_rule_test"]}
        self.assertEqual(named_there, {rule["alert"] for rule in rules()})


@unittest.skipUnless(shutil.which("promtool"), "there is no promtool")
class Prometheus(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        groups = {"groups": [{"name": "esta", "rules": rules()}]}
        Path(self.folder.name, "rules.yaml").write_text(yaml.safe_dump(groups))

    def test_prometheus_accepts_them(self):
        code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=self.folder.name)
        self.assertEqual(code, 0, said)
        self.assertIn(f"{len(rules())} rules found", said)

    def parsed(self, queries):
        """What promtool says of queries, each as a rule that records."""
        recorded = [{"record": f"query:{place}", "expr": query} for place, query in enumerate(queries)]
        Path(self.folder.name, "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
        return promtool("check", "rules", "queries.yaml", folder=self.folder.name)

    def test_every_query_of_the_dashboard_and_of_all_rules_parses(self):
        named_by_hand = {"metrics": {"rules": {"selector": 'job="mine",cluster=~"a|b"'}}}
        queries = [filled_in(query) for query in queries_of(render(MULTI))]
        queries += [rule["expr"] for change in ({}, named_by_hand) for rule in rules(MULTI, change)]
        for query in queries:
            self.assertNotIn("$", query)
        code, said = self.parsed(queries)
        self.assertEqual(code, 0, said)
        self.assertIn(f"{len(queries)} rules found", said)

    def test_the_judge_sees_a_query_that_does_not_parse(self):
        for query in ("sum by (pod (up)", "rate(up)", "up{namespace=~$namespace}", "rate(up[$__rate_interval])"):
            code, said = self.parsed(["up", query])
            self.assertNotEqual(code, 0, query)
            self.assertIn("query:1", said)

    def test_they_fire_when_they_should(self):
        text = (HERE / "alerts.yaml").read_text()
        tests = load(text)
        summaries = {rule["alert"]: rule for rule in rules()}
        for test in tests["tests"]:
            for check in test["alert_rule_test"]:
                for alert in check.get("exp_alerts", []):
                    # Words are compared by test_each_says above; what fills them in is compared here.
                    rule = summaries[check["alertname"]]
                    alert["exp_labels"] |= {"severity": rule["labels"]["severity"], "team": "research"}
                    filled = rule["annotations"] | {"description": alert.pop("says")}
                    alert["exp_annotations"] = filled
        Path(self.folder.name, "tests.yaml").write_text(json.dumps(tests))
        code, said = promtool("test", "rules", "tests.yaml", folder=self.folder.name)
        self.assertEqual(code, 0, said)


if __name__ == "__main__":
    unittest.main()
