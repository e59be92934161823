"""Every scenario lints, renders alike in both engines and is valid in the oldest and the newest Kubernetes."""

import unittest

from checks import flaws
from engines import NAMESPACE, NEWEST, OLDEST, SCENARIOS, by_key, helm3, helm4, lint3, lint4, merged, pods_of, render


class Scenarios(unittest.TestCase):
    def test_there_are_those_that_the_readme_promises(self):
        names = [path.name for path in SCENARIOS]
        self.assertEqual(names, [f"{name}-values.yaml" for name in ("cpu-trial", "gpu-node", "jobset", "multi-node")])

    def test_both_engines_find_nothing_to_say(self):
        for scenario in [None, *SCENARIOS]:
            with self.subTest(scenario and scenario.name):
                self.assertEqual(lint3(scenario), [])
                self.assertEqual(lint4(scenario), [])

    def test_both_engines_make_the_same_documents(self):
        for scenario in SCENARIOS:
            with self.subTest(scenario.name):
                self.assertEqual(by_key(helm3(merged(scenario))), by_key(helm4(merged(scenario))))

    def test_documents_are_strictly_valid(self):
        for scenario in SCENARIOS:
            for version in (OLDEST, NEWEST):
                with self.subTest(scenario.name, version=version):
                    self.assertEqual(flaws(helm3(merged(scenario), kube=version), version), [])

    def test_pods_that_share_a_claim_for_one_node_are_sent_to_the_same_nodes(self):
        shared = 0
        for scenario in SCENARIOS:
            found = render(scenario)
            for claim in (d for d in found if d["kind"] == "PersistentVolumeClaim" and d["spec"]["accessModes"] == ["ReadWriteOnce"]):
                name = claim["metadata"]["name"]
                users = [pod for _, pod in pods_of(found) if name in str(pod.get("volumes", []))]
                shared += len(users) > 1
                with self.subTest(scenario.name, claim=name):
                    self.assertEqual([pod.get("nodeSelector") for pod in users], [users[0].get("nodeSelector")] * len(users))
        self.assertGreater(shared, 1)

    def test_an_ingress_is_let_through_by_policies(self):
        seen = 0
        for scenario in SCENARIOS:
            values = merged(scenario)
            if values.get("ingress", {}).get("enabled") and values.get("networkPolicy", {}).get("enabled"):
                gate = by_key(render(scenario))["NetworkPolicy", NAMESPACE, "esta-coordinator"]["spec"]["ingress"]
                peers = [peer for rule in gate if rule["ports"][0]["port"] == 7701 for peer in rule["from"]]
                controller = f"ingress-{values['ingress']['className']}"
                self.assertIn({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": controller}}}, peers)
                seen += 1
        self.assertGreater(seen, 0)

    def test_coordinators_have_room_for_a_palette_that_is_kept_elsewhere(self):
        for scenario in SCENARIOS:
            values = merged(scenario)
            if values.get("checkpoints", {}).get("s3"):
                self.assertIn("sizeLimit", values["coordinator"].get("cache", {}), scenario.name)

    def test_the_judge_sees_what_is_wrong(self):
        documents = by_key(helm3(merged(SCENARIOS[2])))
        jobset = next(d for d in documents.values() if d["kind"] == "JobSet")
        jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containerz"] = []
        service = next(d for d in documents.values() if d["kind"] == "Service")
        service["spec"]["selectors"] = {}
        said = flaws([jobset, service], NEWEST)
        self.assertIn("containerz", said[0])
        self.assertIn("selectors", said[1])

    def test_an_older_kubernetes_is_refused(self):
        from engines import Refused

        with self.assertRaisesRegex(Refused, "incompatible"):
            helm3(merged(SCENARIOS[0]), kube="1.30")

    def test_everything_is_in_the_namespace_of_the_release(self):
        for scenario in SCENARIOS:
            for document in helm3(merged(scenario), namespace="elsewhere"):
                self.assertEqual(document["metadata"]["namespace"], "elsewhere", document["kind"])

    def test_names_fit_whatever_the_release_is_called(self):
        longest = "a-release-whose-name-is-as-long-as-helm-takes-it-53-x"
        self.assertEqual(len(longest), 53)
        for scenario in SCENARIOS:
            for document in helm3(merged(scenario, {"workers": {"replicas": 9996}}), release=longest):
                name = document["metadata"]["name"]
                # A pod adds its index, and a StatefulSet's the hash of its revision.
                room = {"JobSet": len("-workers-99-9999"), "Job": len("-9999"), "StatefulSet": 11}.get(document["kind"], 0)
                self.assertLessEqual(len(name) + room, 63, f"{document['kind']} {name}")
