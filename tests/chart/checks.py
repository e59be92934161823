"""Judges of rendered documents: strict schemas, and what an upgrade may not change."""

import kubernetes_validate
from jsonschema import Draft7Validator

from engines import by_key, key_of

TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}


def shape(required=(), **properties):
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def many(items):
    return {"type": "array", "minItems": 1, "items": items}


def texts(*choices):
    return {"type": "string", "enum": list(choices)} if choices else TEXT


LABELS = {"type": "object", "additionalProperties": TEXT}
SELECTOR = shape(["matchLabels"], matchLabels=LABELS)
SCRAPE = shape(
    ["port", "path", "interval"],
    port=TEXT,
    path={"const": "/metrics"},
    interval={"pattern": "^[0-9]+[smh]$"},
    relabelings=many(shape(["targetLabel"], action=texts("replace"), targetLabel=TEXT, replacement=TEXT)),
)
RULE = shape(
    ["alert", "expr", "labels", "annotations"],
    alert=TEXT,
    expr=TEXT,
    **{"for": {"pattern": "^[0-9]+[smhd]$"}},
    labels=LABELS,
    annotations=LABELS,
)
ISSUER_REF = shape(["name"], name=TEXT, kind=texts("Issuer", "ClusterIssuer"), group=TEXT)
KEY = shape(algorithm=texts("RSA", "ECDSA", "Ed25519"), size=COUNT, rotationPolicy=texts("Always", "Never"))
DURATION = {"type": "string", "pattern": "^[0-9]+h$"}

# The `spec` of kinds that Kubernetes' own schemas do not know, as far as the chart uses them; after the published definitions.
SPECS = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): shape(["selector", "endpoints"], selector=SELECTOR, endpoints=many(SCRAPE)),
    ("monitoring.coreos.com/v1", "PodMonitor"): shape(
        ["selector", "podMetricsEndpoints"], selector=SELECTOR, podMetricsEndpoints=many(SCRAPE)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): shape(["groups"], groups=many(shape(["name", "rules"], name=TEXT, rules=many(RULE)))),
    ("cert-manager.io/v1", "Issuer"): shape(selfSigned=shape(), ca=shape(["secretName"], secretName=TEXT)),
    ("cert-manager.io/v1", "Certificate"): shape(
        ["secretName", "issuerRef"],
        secretName=TEXT,
        commonName={"type": "string", "maxLength": 64},
        isCA=FLAG,
        duration=DURATION,
        renewBefore=DURATION,
        privateKey=KEY,
        usages=many(texts("digital signature", "key encipherment", "server auth", "client auth")),
        dnsNames=many(TEXT),
        ipAddresses=many(TEXT),
        issuerRef=ISSUER_REF,
    ),
    ("jobset.x-k8s.io/v1alpha2", "JobSet"): shape(
        ["replicatedJobs"],
        suspend=FLAG,
        ttlSecondsAfterFinished=COUNT,
        network=shape(enableDNSHostnames=FLAG, publishNotReadyAddresses=FLAG, subdomain=TEXT),
        successPolicy=shape(["operator"], operator=texts("All", "Any"), targetReplicatedJobs={"type": "array"}),
        failurePolicy=shape(
            maxRestarts=COUNT,
            rules=many(
                shape(
                    ["name", "action"],
                    name=TEXT,
                    action=texts("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"),
                    onJobFailureReasons=many(texts("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy")),
                )
            ),
        ),
        replicatedJobs=many(
            shape(
                ["name", "template"],
                name=TEXT,
                replicas=COUNT,
                # The specification of its Jobs is Kubernetes' own: see below.
                template=shape(["spec"], metadata=shape(annotations=LABELS, labels=LABELS), spec={"type": "object"}),
            )
        ),
    ),
}


def flaws(documents, version):
    """What is wrong with documents in the eyes of this Kubernetes: unknown, missing and mistyped fields."""
    found = []
    for document in documents:
        spec = SPECS.get((document["apiVersion"], document["kind"]))
        try:
            if spec is None:
                kubernetes_validate.validate(document, version, strict=True)
                continue
            Draft7Validator(spec).validate(document["spec"])
            for job in document["spec"].get("replicatedJobs", []):
                inner = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job["template"]["spec"]}
                kubernetes_validate.validate(inner, version, strict=True)
        except Exception as error:  # of two libraries
            place = "/".join(map(str, getattr(error, "path", [])))
            found.append(f"{'/'.join(key_of(document))} {place}: {getattr(error, 'message', error)}")
    return found


# Of what is under `spec` (or beside it), the fields that may change while the object is there.
MUTABLE = {
    "StatefulSet": {"replicas", "ordinals", "template", "updateStrategy", "minReadySeconds", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy"},
    "Job": {"parallelism", "completions", "suspend", "activeDeadlineSeconds", "backoffLimit", "maxFailedIndexes", "podReplacementPolicy", "ttlSecondsAfterFinished"},
    "JobSet": {"suspend", "ttlSecondsAfterFinished"},
    "PersistentVolumeClaim": {"resources"},
}


def forbidden(before, after):
    """Changes of immutable fields that an upgrade from one set of documents to another would try."""
    old, new, found = by_key(before), by_key(after), []
    for key in old.keys() & new.keys():
        kind, was, is_ = key[0], old[key], new[key]
        if "helm.sh/hook" in is_["metadata"].get("annotations", {}):
            continue  # made anew each time
        if kind == "ConfigMap" and was.get("immutable") and (was["data"], True) != (is_["data"], is_.get("immutable")):
            found.append(f"{key}: data")
        if kind == "Service" and was["spec"].get("clusterIP") != is_["spec"].get("clusterIP"):
            found.append(f"{key}: clusterIP")
        for field in (was.get("spec", {}).keys() | is_.get("spec", {}).keys()) - MUTABLE.get(kind, {None}):
            if kind in MUTABLE and was["spec"].get(field) != is_["spec"].get(field):
                found.append(f"{key}: {field}")
        if kind == "Job":
            elastic = all(job["spec"]["parallelism"] == job["spec"]["completions"] for job in (was, is_))
            if was["spec"]["completions"] != is_["spec"]["completions"] and not elastic:
                found.append(f"{key}: completions without parallelism")
    return found
