"""Both engines of Helm, and what the tests know of the chart's files."""

import functools
import json
import re
import subprocess
import time
from pathlib import Path

import helm_python
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "charts" / "esta"
SCENARIOS = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE, NAMESPACE = "esta", "train"
# The oldest and the newest Kubernetes that the chart is for.
OLDEST, NEWEST = "1.31", "1.37"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML as Helm and the programs read it: `1e-3` is a number."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(text):
    return yaml.load(text, Loader)


def documents(text):
    """Every document that is not empty."""
    return [document for document in yaml.load_all(text, Loader) if document]


class Refused(Exception):
    """The chart does not render with these values; the text is what Helm says."""


def merged(scenario, change=None):
    """A scenario's values with others laid over them; None takes a key back, as in Helm."""
    values = load(Path(scenario).read_text()) if scenario else {}
    return overlay(values, change or {})


def overlay(below, above):
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = overlay(result[key], value)
        else:
            result[key] = value
    return result


def nested(key, value):
    """`a.b` and a value as nested mappings."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def helm3(values, kube=NEWEST, release=RELEASE, namespace=NAMESPACE):
    """Documents as the command line of Helm 3 makes them."""
    command = ["helm", "template", release, str(CHART), "--namespace", namespace, "--kube-version", kube, "--values", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stderr)
    return documents(done.stdout)


def helm4(values, release=RELEASE, namespace=NAMESPACE):
    """Documents as the library of Helm 4 makes them."""
    with helm_python.Chart.load(str(CHART)) as chart:
        return rendered_by(chart, values, release, namespace)


def rendered_by(chart, values, release, namespace):
    try:
        chart.validate_schema(values)
        files = chart.render(values, name=release, namespace=namespace)
    except helm_python.HelmError as error:
        raise Refused(str(error)) from error
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [document for text in texts for document in documents(text)]


@functools.cache
def loaded():
    return helm_python.Chart.load(str(CHART))


@functools.cache
def rendered_text(values, release, namespace):
    return json.dumps(rendered_by(loaded(), json.loads(values), release, namespace))


def render(scenario, change=None, release=RELEASE, namespace=NAMESPACE):
    """Documents of a scenario with other values laid over it, by Helm 4; test_scenarios shows that Helm 3 makes the same."""
    return json.loads(rendered_text(json.dumps(merged(scenario, change)), release, namespace))


def lint3(scenario):
    command = ["helm", "lint", str(CHART), "--strict"] + (["--values", str(scenario)] if scenario else [])
    done = subprocess.run(command, capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


def lint4(scenario):
    report = helm_python.lint(str(CHART), merged(scenario), strict=True, namespace=NAMESPACE, kube_version=f"v{NEWEST}.0")
    return [message for message in report["messages"] if message["severity"] > 1] + report["errors"]


def key_of(document):
    metadata = document["metadata"]
    return document["kind"], metadata["namespace"], metadata["name"]


def by_key(found):
    keyed = {key_of(document): document for document in found}
    assert len(keyed) == len(found), "two objects have one name"
    return keyed


def named(found, kind, name=None):
    """The one object of a kind, or of a kind and name."""
    matches = [d for d in found if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(matches) == 1, f"{len(matches)} objects are {kind} {name or ''}"
    return matches[0]


def workers_of(found):
    """The Job's specification, of a Job or inside a JobSet."""
    for document in found:
        if document["kind"] == "Job":
            return document["spec"]
        if document["kind"] == "JobSet":
            return document["spec"]["replicatedJobs"][0]["template"]["spec"]
    raise AssertionError("there are no workers")


def pods_of(found):
    """Every pod specification: whose it is, and it."""
    for document in found:
        kind, spec = document["kind"], document.get("spec", {})
        if kind == "Pod":
            yield document["metadata"]["name"], spec
        elif kind in ("StatefulSet", "Job"):
            yield document["metadata"]["name"], spec["template"]["spec"]
        elif kind == "JobSet":
            yield document["metadata"]["name"], workers_of([document])["template"]["spec"]


def job_file(found):
    """The job as the coordinator of these documents reads it."""
    return load(job_files(found)["job.yaml"])


def job_files(found):
    """The job's file and those beside it."""
    pod = named(found, "StatefulSet")["spec"]["template"]["spec"]
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "job")
    return named(found, "ConfigMap", volume["configMap"]["name"])["data"]


def find(found, place):
    """What stands at a place of documents: `Kind/name key key ..`, or None. In a list a key is a number, what an element is called
    by, or the option that a text gives. `job` and `files` stand for the job as its coordinator reads it and for the files beside it.
    """
    first, *keys = place.split()
    if first in ("job", "files"):
        at = job_file(found) if first == "job" else job_files(found)
    else:
        kind, _, name = first.partition("/")
        at = next((d for d in found if d["kind"] == kind and name in ("", d["metadata"]["name"])), None)
    for key in keys:
        at = element(at, key) if isinstance(at, list) else (at or {}).get(key)
    return at


def element(items, key):
    if key.lstrip("-").isdigit():
        return items[int(key)] if -len(items) <= int(key) < len(items) else None
    for item in items:
        if isinstance(item, str) and item.startswith(f"{key}="):
            return item.removeprefix(f"{key}=")
        if isinstance(item, dict) and key in (item.get(called) for called in ("name", "mountPath", "topologyKey", "alert")):
            return item
    return None


def seconds_to_render(scenario, engine):
    """The best of three: how long an engine takes, its own start included."""
    values, times = merged(scenario), []
    for _ in range(3):
        begun = time.perf_counter()
        engine(values)
        times.append(time.perf_counter() - begun)
    return min(times)
