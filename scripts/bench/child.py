"""A measured program: a process of its own that is asked in lines and answers in JSON."""

import json
import os
import subprocess


class Ended(Exception):
    """The program ended instead of answering."""


class Child:
    """Starts `command device threads`, which greets once its libraries are at work and then waits for its case."""

    def __init__(self, command, device, threads=1, **environment):
        count = str(threads)
        environment = dict(os.environ, OMP_NUM_THREADS=count, MKL_NUM_THREADS=count, **environment)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([*command, device, count], stdin=pipe, stdout=pipe, text=True, env=environment)
        self.case = None
        self._hear()

    @property
    def pid(self):
        return self.process.pid

    def begin(self, case):
        """Hands over the case; `self.case` is what the program says of it."""
        self.case = self.ask(json.dumps(case))
        return self

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it ended with is said below
        return self._hear()

    def _hear(self):
        answer = self.process.stdout.readline()
        if not answer:
            raise Ended(f"{self.process.args[0]} ended with {self.process.wait()}")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()
