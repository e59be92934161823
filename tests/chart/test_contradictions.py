"""Values that contradict each other fail, in both engines, with the sentence that helps."""

import unittest

from engines import SCENARIOS, Refused, helm3, merged, render

CPU, GPU, JOBSET, MULTI = SCENARIOS
TOKENS = {"enabled": True, "jwks": "{}"}

# scenario, change, what is said
CONTRADICTIONS = {
    "no job": (CPU, {"job": None}, "there is no job: give one as `job:` in the values"),
    "two jobs": (CPU, {"jobFile": "name: x"}, "job and jobFile are both given"),
    "a job that is no YAML": (CPU, {"job": None, "jobFile": "- a: ["}, "jobFile is no mapping in YAML"),
    "a key that no job has": (CPU, {"job": {"trian": {}}}, "the job has the unknown key trian: keys are base, name"),
    "the same in a file": (JOBSET, {"jobFile": "name: x\ntrian: {}"}, "the job has the unknown key trian"),
    "a folder that the chart chooses": (CPU, {"job": {"output_dir": "/x"}}, "the job's output_dir is the chart's to choose"),
    "a base that is not there": (CPU, {"job": {"base": "b.yaml"}}, "the job extends b.yaml, which is not there: add it to jobFiles"),
    "a second job.yaml": (CPU, {"jobFiles": {"job.yaml": "x"}}, "jobFiles may not hold job.yaml"),
    "a name that is a path": (CPU, {"job": {"name": "../x"}}, "the job's name ../x is a part of paths here"),
    "a drain longer than the grace": (
        CPU,
        {"job": {"timeouts": {"drain": 400}}},
        "timeouts.drain of 400 s does not fit into workers.terminationGracePeriodSeconds of 330: workers would be killed",
    ),
    "a drain that a base says": (
        GPU,
        {"jobFiles": {"base.yaml": "base: below.yaml\nseed: 1", "below.yaml": "timeouts: {drain: 400}"}},
        "timeouts.drain of 400 s does not fit into workers.terminationGracePeriodSeconds of 330",
    ),
    "a base that extends what is not there": (GPU, {"jobFiles": {"base.yaml": "base: b.yaml"}}, "base.yaml extends b.yaml, which is not there"),
    "a place in a base": (
        GPU,
        {"jobFiles": {"base.yaml": "data: {train: {layout: alpaca, path: $(data)/x.json}}"}},
        "base.yaml of jobFiles names $(data), which stands for a place in the job alone: say it there",
    ),
    "a grace shorter than the drain": (CPU, {"workers": {"preStopSeconds": 60}}, "less workers.preStopSeconds of 60"),
    "data from nowhere": (CPU, {"data": {"claim": {"existing": None}}}, "the job names $(data), and there is no such place: set data.claim.existing"),
    "several coordinators on a file": (
        CPU,
        {"coordinator": {"replicas": 3}},
        "coordinator.replicas is 3, and a record in a file (store.kind: redb) is for one coordinator: set store.kind to etcd",
    ),
    "etcd without members": (CPU, {"store": {"kind": "etcd"}}, "store.kind is etcd, and no member is named"),
    "members without etcd": (CPU, {"store": {"etcd": {"endpoints": ["a"]}}}, "store.etcd.endpoints are given and store.kind is redb"),
    "etcd and a file": (MULTI, {"store": {"redb": {"existingClaim": "c"}}}, "store.redb.existingClaim is given and store.kind is etcd"),
    "TLS to etcd without its authority": (MULTI, {"store": {"etcd": {"tls": {"caSecret": None}}}}, "store.etcd.tls is on without store.etcd.tls.caSecret"),
    "a certificate for etcd without TLS": (MULTI, {"store": {"etcd": {"tls": {"enabled": False}}}}, "set store.etcd.tls.enabled"),
    "checkpoints twice": (
        MULTI,
        {"checkpoints": {"claim": {"existing": "c"}}},
        "checkpoints are given as a claim and as s3://esta/runs: leave one of them out",
    ),
    "models twice": (MULTI, {"models": {"claim": {"create": True}}}, "models are given as a claim and as s3://esta/models"),
    "a claim made and there": (CPU, {"data": {"claim": {"create": True}}}, "data.claim.create is on and data.claim.existing names one"),
    "a claim for one node and coordinators on several": (
        MULTI,
        {"checkpoints": {"s3": "", "claim": {"accessModes": ["ReadWriteOnce"]}}},
        "coordinator.replicas of 3 have to be on different nodes (coordinator.spread.nodes: DoNotSchedule), and the claim that is made for "
        "checkpoints is for one: set checkpoints.claim.accessModes to [ReadWriteMany]",
    ),
    "the same of models": (
        MULTI,
        {"models": {"s3": "", "claim": {"create": True, "accessModes": ["ReadWriteOnce"]}}},
        "set models.claim.accessModes to [ReadWriteMany]",
    ),
    "a coordinator that is killed before it hands over": (
        CPU,
        {"coordinator": {"preStopSeconds": 60}},
        "coordinator.preStopSeconds of 60 leave nothing of coordinator.terminationGracePeriodSeconds of 60",
    ),
    "a claim for one pod": (CPU, {"checkpoints": {"claim": {"accessModes": ["ReadWriteOncePod"]}}}, "more than one pod uses that claim"),
    "TLS without certificates": (CPU, {"tls": {"enabled": True}}, "tls is on without certificates: name tls.coordinatorSecret"),
    "certificates without TLS": (CPU, {"tls": {"coordinatorSecret": "s"}}, "certificates are given and TLS is off: set tls.enabled"),
    "cert-manager without TLS": (CPU, {"tls": {"certManager": {"enabled": True}}}, "certificates are given and TLS is off"),
    "two sources of certificates": (MULTI, {"tls": {"coordinatorSecret": "s"}}, "tls has Secrets and cert-manager too"),
    "mutual TLS for workers without any": (JOBSET, {"tls": {"workerSecret": None}}, "tls.mutual asks workers for a certificate, and they have none"),
    "tokens without keys": (MULTI, {"auth": {"serviceAccountTokens": {"jwks": None}}}, "auth.serviceAccountTokens is on without the cluster's public keys"),
    "keys twice": (MULTI, {"auth": {"serviceAccountTokens": {"jwksConfigMap": "c"}}}, "has jwks and jwksConfigMap"),
    "keys without tokens": (CPU, {"auth": {"serviceAccountTokens": {"jwks": "{}"}}}, "public keys are given and auth.serviceAccountTokens is off"),
    "tokens for nobody": (MULTI, {"auth": {"serviceAccountTokens": {"audience": ""}}}, "tokens have to say whom they are for"),
    "tokens of nobody": (MULTI, {"auth": {"serviceAccountTokens": {"issuer": ""}}}, "auth.serviceAccountTokens.issuer is empty"),
    "tokens that workers have not": (JOBSET, {"auth": {"tokens": {"workerSecret": None}}}, "auth.tokens asks workers for a token, and they have none"),
    "tokens that coordinators know not": (JOBSET, {"auth": {"tokens": {"existingSecret": None}}}, "coordinators know no tokens"),
    "two tokens for a worker": (JOBSET, {"auth": {"serviceAccountTokens": TOKENS}}, "workers have auth.tokens.workerSecret and tokens of their service account"),
    "tokens that anybody can read": (CPU, {"auth": {"serviceAccountTokens": TOKENS}}, "tokens are sent without TLS, and anybody on the way can read them"),
    "policies that would shut workers out": (
        MULTI,
        {"workers": {"network": {"hostNetwork": True}}},
        "policies cannot tell such workers from their nodes, and would shut them out. Name the nodes' addresses in networkPolicy.nodeCIDRs",
    ),
    "no workers": (CPU, {"workers": {"replicas": 0}}, "workers.replicas is 0, and a Job of none is complete at once: workers.suspend stops them"),
    "a first step that waits for nobody": (CPU, {"coordinator": {"waitForWorkers": 3}}, "coordinator.waitForWorkers of 3 is more than the 2 of workers.replicas and gpu.count"),
    "slices of a GPU for one process": (GPU, {"workers": {"gpu": {"resource": "nvidia.com/mig-3g.40gb"}}}, "a process sees one MIG slice. Set workers.gpu.count to 1"),
    "one port for all pods of a node": (
        GPU,
        {"workers": {"replicas": 2, "packing": {"mode": "required", "topologyKeys": ["kubernetes.io/hostname"]}, "network": {"hostNetwork": True}}},
        "only one pod of them can have port 7702",
    ),
    "the same for a JobSet's nodes": (JOBSET, {"workers": {"http": {"enabled": True}}}, "only one pod of them can have port 7702"),
    "a JobSet's settings for a Job": (CPU, {"workers": {"jobSet": {"groups": 2}}}, "are a JobSet's, and workers.kind is Job"),
    "workers that cannot be shared out": (JOBSET, {"workers": {"replicas": 10}}, "workers.replicas of 10 cannot be shared out evenly over workers.jobSet.groups of 4"),
    "a queue and a hand that suspend": (MULTI, {"workers": {"suspend": True}}, "Kueue suspends and starts what is in its queue training by itself"),
    "the same for a JobSet": (JOBSET, {"workers": {"suspend": True, "kueue": {"queueName": "q"}}}, "Kueue suspends and starts"),
    "a priority without a queue": (CPU, {"workers": {"kueue": {"priorityClass": "p"}}}, "given without a queue: name workers.kueue.queueName"),
    "RDMA without a GPU": (CPU, {"workers": {"rdma": {"enabled": True}}}, "NCCL alone uses RDMA, and needs a GPU"),
    "adapters without RDMA": (GPU, {"workers": {"rdma": {"hca": "mlx5_0"}}}, "set workers.rdma.enabled"),
    "a budget that blocks drains": (CPU, {"workers": {"podDisruptionBudget": {"minAvailable": 2}}}, "would block every drain of a node"),
    "a drain that ends the run": (CPU, {"workers": {"drainedExitCode": 2}}, "workers.drainedExitCode 2 is one of workers.finalExitCodes"),
    "a drain that gives a place up": (CPU, {"workers": {"drainedExitCode": 7}}, "workers.drainedExitCode 7 is one of workers.finalIndexExitCodes"),
    "a code that ends two things": (
        CPU,
        {"workers": {"finalExitCodes": [7, 2]}},
        "7 is one of workers.finalExitCodes and of workers.finalIndexExitCodes",
    ),
    "metrics that are not served": (GPU, {"workers": {"http": {"enabled": False}}}, "metrics.podMonitor scrapes workers, and workers.http is off"),
    "alerts on nothing": (CPU, {"metrics": {"rules": {"enabled": True}}}, "metrics.rules would watch series that nothing scrapes"),
    "a page without a name": (CPU, {"ingress": {"enabled": True}}, "ingress is on without a name: set ingress.host"),
    "a page that nobody may read": (
        MULTI,
        {"networkPolicy": {"httpFrom": []}},
        "ingress is on, and networkPolicy.httpFrom lets nobody read the page",
    ),
    "a flag of the chart": (CPU, {"coordinator": {"extraArgs": ["--store=x"]}}, "coordinator.extraArgs has --store, which the chart gives"),
    "a job behind the hashes' back": (CPU, {"coordinator": {"extraArgs": ["--set", "seed=1"]}}, "would change the job behind the hashes' back"),
    "a flag of the workers": (CPU, {"workers": {"extraArgs": ["--device=cuda"]}}, "workers.extraArgs has --device"),
    "a variable of the coordinator": (CPU, {"coordinator": {"extraEnv": [{"name": "ESTA_HTTP"}]}}, "coordinator.extraEnv has ESTA_HTTP"),
    "one that stands for a flag": (CPU, {"coordinator": {"extraEnv": [{"name": "ESTA_MAX_CONNECTIONS"}]}}, "coordinator.extraEnv has ESTA_MAX_CONNECTIONS"),
    "a variable of the workers": (CPU, {"workers": {"extraEnv": [{"name": "ESTA_COORDINATOR"}]}}, "has ESTA_COORDINATOR, which the chart gives"),
}

# Values that the schema refuses: change, a word of what is said.
UNKNOWN = {
    "a key at the top": ({"worker": {}}, "worker"),
    "a key below": ({"workers": {"replica": 3}}, "replica"),
    "a key deep below": ({"tls": {"certManager": {"issuer": {}}}}, "issuer"),
    "a kind": ({"workers": {"kind": "Deployment"}}, "workers"),
    "a text for a number": ({"workers": {"replicas": "many"}}, "replicas"),
    "more GPUs than a node has": ({"workers": {"gpu": {"count": 65}}}, "count"),
    "a bucket without its scheme": ({"checkpoints": {"s3": "bucket/runs"}}, "s3"),
    "a variable that is not NCCL's": ({"workers": {"network": {"nccl": {"PATH": "x"}}}}, "nccl"),
    "a digest that is none": ({"coordinator": {"image": {"digest": "latest"}}}, "digest"),
    "a member with a scheme": ({"store": {"etcd": {"endpoints": ["http://a"]}}}, "endpoints"),
    "a guide without its address": ({"metrics": {"rules": {"runbook": "docs/operations.md"}}}, "runbook"),
    "a share above one": ({"telemetry": {"samplingRatio": 2}}, "samplingRatio"),
}


class Contradictions(unittest.TestCase):
    def refused(self, scenario, change):
        values = merged(scenario, change)
        with self.assertRaises(Refused) as by_four:
            render(scenario, change)
        with self.assertRaises(Refused) as by_three:
            helm3(values)
        return str(by_three.exception), str(by_four.exception)

    def test_each_is_said(self):
        for name, (scenario, change, sentence) in CONTRADICTIONS.items():
            with self.subTest(name):
                for said in self.refused(scenario, change):
                    self.assertIn(sentence, said.replace('\\"', '"'))

    def test_what_is_none_is_not_said(self):
        fine = {
            "a drain of the job before that of its base": (
                GPU,
                {"job": {"timeouts": {"drain": 10}}, "jobFiles": {"base.yaml": "timeouts: {drain: 400}"}},
            ),
            "a place in a comment": (GPU, {"jobFiles": {"base.yaml": "# Without $(data).\nseed: 1"}}),
            "coordinators that may share a node": (
                MULTI,
                {"coordinator": {"spread": {"nodes": "none"}}, "checkpoints": {"s3": "", "claim": {"accessModes": ["ReadWriteOnce"]}}},
            ),
            "policies without a page outside": (MULTI, {"ingress": {"enabled": False}, "networkPolicy": {"httpFrom": []}}),
            "no final codes": (CPU, {"workers": {"finalExitCodes": [], "finalIndexExitCodes": []}}),
        }
        for name, (scenario, change) in fine.items():
            with self.subTest(name):
                render(scenario, change)

    def test_several_are_said_at_once(self):
        change = {"coordinator": {"replicas": 2}, "tls": {"enabled": True}}
        for said in self.refused(CPU, change):
            self.assertIn("coordinator.replicas is 2", said)
            self.assertIn("tls is on without certificates", said)

    def test_unknown_and_mistyped_values_are_refused_by_the_schema(self):
        for name, (change, word) in UNKNOWN.items():
            with self.subTest(name):
                for said in self.refused(CPU, change):
                    self.assertIn(word, said)
                    self.assertNotIn("contradict", said)
