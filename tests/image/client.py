"""Writes what this machine's cargo, pip and apt know about their registries into a folder, for steps that run in a clean root:
client.py FOLDER makes apt.conf, pip.conf, cargo.toml and ca.pem. Certificates are read from /run/client/ca.pem there."""

import ast
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path

CA = "/run/client/ca.pem"
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
CARGO_TABLES = ("source", "registries", "registry", "net", "http")


def certificates() -> Path | None:
    """The certificates that this machine believes."""
    named = [os.environ.get(name) for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")]
    places = [*named, ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt"]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


def apt() -> str:
    """What apt is told about fetching."""
    lines = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout.splitlines()
    told = [line for line in lines if re.match(r"Acquire::(https?|Retries|Check-|ForceIPv)", line)]
    return "\n".join([*told, f'Acquire::https::CaInfo "{CA}";', ""])


def pip() -> str:
    """What pip is told, by files and by the environment."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    told = {"cert": CA}
    for line in said.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in PIP_KEYS:
            told[key] = ast.literal_eval(value)
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in told.items()), ""])


def cargo() -> str:
    """What cargo is told about registries; flags and targets of the machine are its own business."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    file = next((home / name for name in ("config.toml", "config") if (home / name).is_file()), None)
    told = tomllib.loads(file.read_text()) if file else {}
    told = {key: value for key, value in told.items() if key in CARGO_TABLES}
    told.setdefault("http", {})["cainfo"] = CA
    return "".join(table([key], value) for key, value in told.items())


def table(path: list[str], values: dict) -> str:
    """A table of TOML and those inside it."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"[{'.'.join(map(json.dumps, path))}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items())]
    inner = (table([*path, key], value) for key, value in values.items() if isinstance(value, dict))
    return "\n".join(lines) + "\n" + "".join(inner)


def main(folder: Path) -> None:
    """Writes the files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "apt.conf").write_text(apt())
    (folder / "pip.conf").write_text(pip())
    (folder / "cargo.toml").write_text(cargo())
    bundle = certificates()
    if bundle:
        shutil.copyfile(bundle, folder / "ca.pem")
    else:
        (folder / "ca.pem").write_text("")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
