"""An image's root and configuration, and programs started in it as an engine would start them."""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CONTAIN = Path(__file__).with_name("contain.py")
PATIENCE = 120.0


@dataclass
class Mount:
    """A folder or file of this machine, over a path of the root that exists there."""

    source: Path
    at: str
    readonly: bool = False


class Image:
    """What scripts/image-check.sh has built: `root` is its files, `config` what the engine is told about it."""

    def __init__(self, root: Path, config: dict) -> None:
        self.root = root
        self.config = config

    @classmethod
    def named(cls, target: str) -> "Image | None":
        """The image of a target; none where the environment names none."""
        variable = "ESTA_IMAGE_" + target.upper().replace("-", "_")
        if variable not in os.environ:
            return None
        root, config = os.environ[variable].split(":")
        return cls(Path(root), json.loads(Path(config).read_text()))

    @property
    def user(self) -> tuple[int, int]:
        """Numbers of user and group."""
        uid, gid = self.config["User"].split(":")
        return int(uid), int(gid)

    def path(self, name: str) -> Path:
        """A file of the image."""
        return self.root / name.lstrip("/")

    def start(self, arguments: list[str], mounts: list[Mount] = (), environment: dict | None = None, program: list[str] | None = None) -> "Program":
        """Starts what the image starts, or another program of it, with these arguments."""
        told = dict(item.split("=", 1) for item in self.config["Env"])
        wanted = {
            "root": str(self.root),
            "folder": self.config["WorkingDir"],
            "uid": self.user[0],
            "gid": self.user[1],
            "words": [*(program or self.config["Entrypoint"]), *arguments],
            "environment": told | (environment or {}),
            "mounts": [{"from": str(m.source), "at": m.at, "readonly": m.readonly} for m in mounts],
        }
        return Program(wanted)

    def call(self, arguments: list[str], mounts: list[Mount] = (), environment: dict | None = None, program: list[str] | None = None) -> tuple[int, str]:
        """Runs it to its end: the exit code and all it said."""
        with self.start(arguments, mounts, environment, program) as started:
            return started.wait(), started.said


class Program:
    """A program in its namespaces; it is process 1 there."""

    def __init__(self, wanted: dict) -> None:
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", sys.executable, str(CONTAIN), json.dumps(wanted)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = ""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.process.stdout.close()

    def end(self) -> None:
        """Kills the program and with it all processes of its namespace; unshare ends when it has ended."""
        if self.process.poll() is None:
            for child in self.children():
                os.kill(child, signal.SIGKILL)
            self.process.wait(PATIENCE)

    def children(self) -> list[int]:
        """The program itself, as this machine numbers it."""
        return [int(child) for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def read(self, deadline: float) -> bool:
        """Takes in what it says next; false at its end."""
        if not self.selector.select(max(0.0, deadline - time.monotonic())):
            self.end()
            raise TimeoutError(f"nothing came any more after:\n{self.said}")
        piece = os.read(self.process.stdout.fileno(), 1 << 16)
        self.said += piece.decode(errors="replace")
        return bool(piece)

    def until(self, pattern: str, patience: float = PATIENCE) -> re.Match:
        """Waits until it has said this."""
        deadline = time.monotonic() + patience
        while not (found := re.search(pattern, self.said)):
            if not self.read(deadline):
                raise AssertionError(f"it ended with {self.process.wait()} without {pattern!r}:\n{self.said}")
        return found

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit code, once it has said everything."""
        deadline = time.monotonic() + patience
        while self.read(deadline):
            pass
        self.process.stdout.close()
        return self.process.wait(max(1.0, deadline - time.monotonic()))

    def order(self, number: signal.Signals) -> None:
        """Sends a signal to the program itself."""
        [child] = self.children()
        os.kill(child, number)
