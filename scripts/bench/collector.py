"""A collector of traces and metrics, a process of its own."""

import json
import subprocess


class Collector:
    def __init__(self, program):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, "collect"], stdin=pipe, stdout=pipe, text=True)
        self.variables = json.loads(self.process.stdout.readline())

    def exports(self, share):
        """The environment of a program that exports this share of its steps, and its metrics once a second."""
        endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
        return {
            endpoint: self.variables[endpoint], "OTEL_TRACES_SAMPLER_ARG": share, "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }

    def end(self):
        """How many spans came."""
        self.process.stdin.close()
        return self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
