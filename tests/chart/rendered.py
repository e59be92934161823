"""What a rendered chart would start, as plain data: for those who start it as processes.

    rendered.py SCENARIO-VALUES [--instead FILE].. [--values FILE].. [--set KEY=VALUE].. [--release NAME] [--namespace NAME]
                [--index N] [--suffix TEXT] [--pod-ip IP] [--node NAME] [--root FOLDER] [--claims FOLDER] [--replace OLD=NEW]..

prints JSON: a list of workloads (`coordinator`, `worker`, `status`), each with `kind`, `name`, `pods` (how many), `pod` (the name
of the pod of this index), `command` and `args` with `$(VARIABLE)` filled in, `env` (field references and ConfigMap keys resolved),
`secrets_env` (Secrets that would be added to it), `files` (path to content, of ConfigMaps), `secret_files` (path to Secret and
key), `certificates` (Secrets among them that cert-manager makes, to the names in them), `tokens` (path to audience and account),
`folders` (writable or shared places), `ports`, `probes`, `pre_stop_seconds`, `grace_seconds` and, for coordinators, `min_ready_seconds`
or, for workers, `job`: the numbers and the policy by which a Job judges exit codes. With --root every path inside the
pod is laid below that folder, in arguments, variables and files too; with --claims what claims hold lies below another folder, the
same for all pods. --replace changes any text last of all, for addresses.
"""

import argparse
import json
import re
import sys

from engines import NAMESPACE, RELEASE, helm3, load, merged, nested, overlay, workers_of

VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def expand(text, env):
    """`$(NAME)` as Kubernetes fills it in: unknown names stay, `$$` is a dollar."""
    return VARIABLE.sub(lambda found: "$" if found[0] == "$$" else env.get(found[1], found[0]), text)


class Pod:
    """One pod of a workload, with what its fields and ConfigMaps say."""

    def __init__(self, documents, kind, name, template, where):
        self.kind, self.name, self.spec = kind, name, template["spec"]
        self.maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
        asked = [document["spec"] for document in documents if document["kind"] == "Certificate"]
        self.certificates = {spec["secretName"]: [*spec.get("dnsNames", []), *spec.get("ipAddresses", [])] for spec in asked}
        self.fields = {
            "metadata.name": where["pod"],
            "metadata.namespace": where["namespace"],
            "spec.nodeName": where["node"],
            "status.podIP": where["ip"],
            "status.hostIP": where["ip"],
        }
        self.container = self.spec["containers"][0]

    def env(self):
        env = {}
        for variable in self.container.get("env", []):
            source = variable.get("valueFrom", {})
            if field := source.get("fieldRef"):
                env[variable["name"]] = self.fields[field["fieldPath"]]
            elif key := source.get("configMapKeyRef"):
                env[variable["name"]] = self.maps[key["name"]][key["key"]]
            elif "secretKeyRef" not in source:
                env[variable["name"]] = expand(variable.get("value", ""), env)
        return env

    def places(self):
        """Files and folders by the path they are seen at."""
        files, secrets, tokens, folders = {}, {}, {}, {}
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            volume, at = volumes[mount["name"]], mount["mountPath"]
            if config := volume.get("configMap"):
                content = self.maps.get(config["name"], {})
                for item in config.get("items") or [{"key": key, "path": key} for key in content]:
                    files[f"{at}/{item['path']}"] = content.get(item["key"])
            elif secret := volume.get("secret"):
                names = ["tls.crt", "tls.key", "ca.crt"]
                for item in secret.get("items") or [{"key": name, "path": name} for name in names]:
                    secrets[f"{at}/{item['path']}"] = {"secret": secret["secretName"], "key": item["key"]}
            elif projected := volume.get("projected"):
                for source in projected["sources"]:
                    token = source["serviceAccountToken"]
                    tokens[f"{at}/{token['path']}"] = {"audience": token["audience"], "account": self.spec["serviceAccountName"]}
            else:
                claim = volume.get("persistentVolumeClaim", {}).get("claimName")
                folders[at] = {"claim": claim, "sub_path": mount.get("subPath"), "read_only": mount.get("readOnly", False)}
        made = {secret["secret"] for secret in secrets.values()} & self.certificates.keys()
        certificates = {secret: self.certificates[secret] for secret in sorted(made)}
        return {"files": files, "secret_files": secrets, "certificates": certificates, "tokens": tokens, "folders": folders}

    def probes(self):
        ports = {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}
        found = {}
        for name in ("startup", "liveness", "readiness"):
            if probe := self.container.get(f"{name}Probe"):
                get = probe["httpGet"]
                rest = {key: value for key, value in probe.items() if key != "httpGet"}
                found[name] = {"path": get["path"], "port": ports[get["port"]], **rest}
        return found

    def described(self):
        env = self.env()
        pre_stop = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        return {
            "kind": self.kind,
            "name": self.name,
            "pod": self.fields["metadata.name"],
            "command": self.container["command"],
            "args": [expand(argument, env) for argument in self.container["args"]],
            "env": env,
            "secrets_env": [s["secretRef"]["name"] for s in self.container.get("envFrom", []) if "secretRef" in s],
            **self.places(),
            "ports": {port["name"]: port["containerPort"] for port in self.container.get("ports", [])},
            "probes": self.probes(),
            "pre_stop_seconds": pre_stop,
            "grace_seconds": self.spec.get("terminationGracePeriodSeconds", 30),
        }


def workloads(documents, namespace=NAMESPACE, index=0, pod_ip="127.0.0.1", node="node-0", suffix="abcde"):
    """Every workload of rendered documents, as the pod of this index sees it."""
    found = []
    for document in documents:
        kind, name, spec = document["kind"], document["metadata"]["name"], document.get("spec")
        where = {"namespace": namespace, "node": node, "ip": pod_ip}
        if kind == "StatefulSet":
            pod = Pod(documents, "coordinator", name, spec["template"], where | {"pod": f"{name}-{index}"})
            found.append(pod.described() | {"pods": spec["replicas"], "min_ready_seconds": spec.get("minReadySeconds", 0)})
        elif kind in ("Job", "JobSet"):
            job = workers_of([document])
            groups = spec["replicatedJobs"][0]["replicas"] if kind == "JobSet" else 1
            group, place = divmod(index, job["completions"])
            pod_name = f"{name}-workers-{group}-{place}-{suffix}" if kind == "JobSet" else f"{name}-{index}-{suffix}"
            pod = Pod(documents, "worker", name, job["template"], where | {"pod": pod_name})
            policy = {key: job[key] for key in ("backoffLimitPerIndex", "podFailurePolicy", "completions", "parallelism")}
            described = pod.described() | {"pods": job["completions"] * groups, "job": policy}
            described["env"] = {"JOB_COMPLETION_INDEX": str(place)} | described["env"]
            found.append(described)
        elif kind == "Pod":
            found.append(Pod(documents, "status", name, document, where | {"pod": name}).described() | {"pods": 1})
    return found


def claimed(found):
    """Where claims are mounted: a coordinator's job names places that workers alone have."""
    return {at for described in found for at, folder in described["folders"].items() if folder["claim"]}


def below(root, shared, described):
    """The same with every mounted path below a folder, or that which is said for it; S3 addresses and the like stay."""
    own = [*described["folders"], *described["files"], *described["secret_files"], *described["tokens"]]
    places = {at: root for at in own if not at.startswith("/dev/")} | shared
    if not places:
        return described
    paths = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
    inside = re.compile(rf"(?<![A-Za-z0-9/._-])({paths})(?![A-Za-z0-9._-])")

    def moved(value):
        if isinstance(value, str):
            return inside.sub(lambda path: places[path[0]].rstrip("/") + path[0], value)
        if isinstance(value, list):
            return [moved(one) for one in value]
        if isinstance(value, dict):
            return {moved(key): moved(one) for key, one in value.items()}
        return value

    return moved(described) | {"probes": described["probes"]}


def setting(text):
    """`a.b=1` as nested values."""
    key, value = text.split("=", 1)
    return nested(key, load(value))


def main():
    parser = argparse.ArgumentParser(description="What a rendered chart would start, as JSON.")
    parser.add_argument("scenario")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--values", action="append", default=[], metavar="FILE", help="laid over the scenario, in order")
    parser.add_argument("--instead", action="append", default=[], metavar="FILE", help="each of its keys whole in place of the scenario's")
    parser.add_argument("--release", default=RELEASE)
    parser.add_argument("--namespace", default=NAMESPACE)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--suffix", default="abcde", help="how the name of a Job's pod ends, which is another at each try")
    parser.add_argument("--pod-ip", default="127.0.0.1")
    parser.add_argument("--node", default="node-0")
    parser.add_argument("--root")
    parser.add_argument("--claims", metavar="FOLDER", help="that of --root when absent")
    parser.add_argument("--replace", action="append", default=[], metavar="OLD=NEW")
    args = parser.parse_args()
    values = merged(args.scenario)
    for path in args.instead:
        values |= merged(path)
    for path in args.values:
        values = overlay(values, merged(path))
    for text in args.set:
        values = overlay(values, setting(text))
    documents = helm3(values, release=args.release, namespace=args.namespace)
    found = workloads(documents, args.namespace, args.index, args.pod_ip, args.node, args.suffix)
    if args.root:
        shared = dict.fromkeys(claimed(found), args.claims or args.root)
        found = [below(args.root, shared, described) for described in found]
    text = json.dumps(found, indent=2)
    for pair in args.replace:
        old, new = pair.split("=", 1)
        text = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
    print(text)


if __name__ == "__main__":
    sys.exit(main())
