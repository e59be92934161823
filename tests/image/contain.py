"""Starts a program as a container would, without an engine: contain.py JSON, in new mount and process namespaces.

The root is mounted read-only; /proc, a few devices, an empty /dev/shm and the folders that are named are mounted over it; then
the program runs as process 1, as the user that the image says, with nothing gained and no capability left."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

DEVICES = ("null", "zero", "full", "random", "urandom")
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38


def mount(*words: str) -> None:
    """Mounts, or ends the program."""
    subprocess.run(["mount", *words], check=True)


def furnish(root: Path, mounts: list[dict]) -> None:
    """Makes the root read-only and puts over it what a container gets."""
    mount("--make-rprivate", "/")
    mount("--bind", str(root), str(root))
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root / "dev"))
    (root / "dev/shm").mkdir()
    for device in DEVICES:
        (root / "dev" / device).touch()
        mount("--bind", f"/dev/{device}", str(root / "dev" / device))
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / "dev/shm"))
    mount("-t", "proc", "proc", str(root / "proc"))
    for place in mounts:
        target = str(root / place["at"].lstrip("/"))
        mount("--bind", place["from"], target)
        if place.get("readonly"):
            mount("-o", "remount,ro,bind", target)
    mount("-o", "remount,ro,bind", str(root))


def become(uid: int, gid: int) -> None:
    """Gives up everything that root has."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    tell_kernel(PR_SET_NO_NEW_PRIVS, 1)
    # Another user's process no longer hears of its parent's end unless it asks again.
    tell_kernel(PR_SET_PDEATHSIG, signal.SIGKILL)


def tell_kernel(what: int, value: int) -> None:
    """prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(what, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {what}")


def main(wanted: dict) -> None:
    """Becomes the program."""
    root = Path(wanted["root"])
    furnish(root, wanted["mounts"])
    os.chroot(root)
    os.chdir(wanted["folder"])
    become(wanted["uid"], wanted["gid"])
    os.execve(wanted["words"][0], wanted["words"], wanted["environment"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
