"""What scripts/image-check.sh has built: the files of each image, its configuration, and its program started as an engine would,
as the image's user, with a root that is read-only and one folder to write to."""

import contextlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import unittest
import urllib.request

from container import Image, Mount
from lab import STATE, Lab

IMAGES = {name: image for name in ("coordinator", "worker", "worker-cuda") if (image := Image.named(name))}
WORKERS = [name for name in IMAGES if name != "coordinator"]
PLAIN = ["serve", "--listen", "127.0.0.1:0"]
LISTENING = r"listening on (http://127\.0\.0\.1:\d+)"


def setUpModule() -> None:
    """Without images there is nothing to ask."""
    if not IMAGES:
        raise unittest.SkipTest("scripts/image-check.sh builds images and names them")


class Files(unittest.TestCase):
    """What lies in each root."""

    def test_nothing_can_be_changed_by_the_user(self) -> None:
        for name, image in IMAGES.items():
            uid, gid = image.user
            for path in image.root.rglob("*"):
                if path.is_symlink() or path.relative_to(image.root).parts[:3] == ("var", "lib", "esta"):
                    continue
                facts = path.stat()
                if facts.st_mode & stat.S_ISVTX or stat.S_ISCHR(facts.st_mode):
                    continue
                theirs = facts.st_uid == uid or (facts.st_gid == gid and facts.st_mode & 0o020) or facts.st_mode & 0o002
                self.assertFalse(theirs, f"{name}: {path}")

    def test_nothing_runs_as_somebody_else(self) -> None:
        for name, image in IMAGES.items():
            found = [p for p in image.root.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_mode & 0o6000]
            self.assertEqual(found, [], name)

    def test_the_folder_to_write_to_belongs_to_the_user(self) -> None:
        for name, image in IMAGES.items():
            facts = image.path(STATE).stat()
            self.assertEqual((facts.st_uid, facts.st_gid), image.user, name)
            self.assertEqual(list(image.path(STATE).iterdir()), [], name)

    def test_certificates_are_there(self) -> None:
        for name, image in IMAGES.items():
            self.assertIn("BEGIN CERTIFICATE", image.path("/etc/ssl/certs/ca-certificates.crt").read_text(), name)

    def test_no_caches_no_sources_no_python_no_compiler(self) -> None:
        for name, image in IMAGES.items():
            for folder in ("/var/lib/apt/lists", "/var/cache/apt", "/root/.cache", "/usr/local/cargo/registry", "/src", "/checkout"):
                left = list(image.path(folder).rglob("*")) if image.path(folder).is_dir() else []
                self.assertEqual(left, [], name)
            for program in ("python3", "gcc", "cargo", "rustc", "pip"):
                self.assertFalse(image.path(f"/usr/bin/{program}").exists(), f"{name}: {program}")

    def test_what_licenses_want(self) -> None:
        for name, image in IMAGES.items():
            self.assertIn("Apache License", image.path("/usr/share/doc/esta/LICENSE").read_text(), name)

    @unittest.skipUnless("coordinator" in IMAGES, "no coordinator's image was built")
    def test_the_coordinator_has_no_libtorch_and_no_shell(self) -> None:
        names = {path.name for path in IMAGES["coordinator"].root.rglob("*")}
        self.assertEqual({name for name in names if "torch" in name or name in ("sh", "bash", "busybox")}, set())

    @unittest.skipUnless("coordinator" in IMAGES, "no coordinator's image was built")
    def test_scanners_find_the_packages_of_the_coordinators_root(self) -> None:
        texts = [file.read_text() for file in IMAGES["coordinator"].path("/var/lib/dpkg/status.d").iterdir()]
        found = {re.search(r"^Package: (.+)$", text, re.M)[1] for text in texts if re.search(r"^Version: .+$", text, re.M)}
        self.assertEqual(found, {"base-files", "ca-certificates", "libc6", "libgcc-s1", "netbase"})
        self.assertIn("ID=debian", IMAGES["coordinator"].path("/usr/lib/os-release").read_text())


class Configuration(unittest.TestCase):
    """What engines are told."""

    def test_user_folder_signal_and_labels(self) -> None:
        for name, image in IMAGES.items():
            with self.subTest(name):
                self.assertEqual(image.config["User"], "65532:65532")
                self.assertEqual(image.config["WorkingDir"], STATE)
                self.assertEqual(list(image.config["Volumes"]), [STATE])
                self.assertEqual(image.config["StopSignal"], "SIGTERM")
                self.assertTrue(image.path(image.config["Entrypoint"][0]).is_file())
                labels = {key.rpartition(".")[2]: value for key, value in image.config["Labels"].items() if "opencontainers" in key}
                self.assertRegex(labels["version"], r"^\d+\.\d+\.\d+$")
                self.assertTrue(all(labels.values()), labels)

    def test_no_library_path(self) -> None:
        for name, image in IMAGES.items():
            self.assertFalse([item for item in image.config["Env"] if item.startswith("LD_")], name)


class Programs(unittest.TestCase):
    """What starts in each root."""

    def test_version_and_help(self) -> None:
        for name, image in IMAGES.items():
            with self.subTest(name):
                code, said = image.call(["--version"])
                self.assertEqual((code, said.split()), (0, [image.config["Entrypoint"][0].rpartition("/")[2], said.split()[1]]), said)
                self.assertEqual(said.split()[1], image.config["Labels"]["org.opencontainers.image.version"])
                code, said = image.call(image.config["Cmd"])
                self.assertEqual((code, "Usage:" in said), (0, True), said)

    def test_every_library_is_found_without_help(self) -> None:
        for name, image in IMAGES.items():
            with self.subTest(name):
                program = image.config["Entrypoint"][0]
                said = subprocess.run(["readelf", "-l", image.path(program)], capture_output=True, text=True, check=True).stdout
                loader = re.search(r"interpreter: (.+)]", said)[1]
                code, said = image.call(["--list", program], program=[loader])
                self.assertEqual((code, "not found" in said), (0, False), said)
                torch = re.findall(r"(lib(?:torch|c10)\S*) => (\S+)", said)
                self.assertEqual(bool(torch), name in WORKERS)
                for library, place in torch:
                    self.assertIn("/opt/esta/", place, library)


@unittest.skipUnless("coordinator" in IMAGES, "no coordinator's image was built")
class Coordinator(unittest.TestCase):
    """That it serves with one folder to write to."""

    def setUp(self) -> None:
        self.image = IMAGES["coordinator"]
        self.lab = Lab(self.image.user)
        self.addCleanup(self.lab.close)
        self.job = self.lab.job("small", 20)
        self.mounts = [Mount(self.lab.path, STATE)]

    def test_serves_stops_in_order_and_goes_on(self) -> None:
        run = None
        for _ in range(2):
            with self.image.start([*PLAIN, "--config", self.job], self.mounts) as coordinator:
                address = coordinator.until(LISTENING)[1]
                code, said = self.image.call(["status", "--coordinator", address])
                self.assertEqual(code, 0, said)
                coordinator.order(signal.SIGTERM)
                self.assertIn(coordinator.wait(), (0, 130), coordinator.said)
                name = re.search(r"small-[0-9a-f]+", coordinator.said)[0]
                self.assertIn(run, (None, name), "the second start goes on with the first one's run")
                run = name
        self.assertTrue((self.lab.path / "runs/small/record.redb").is_file())

    def test_serves_its_page_and_what_probes_ask_for(self) -> None:
        with self.image.start([*PLAIN, "--config", self.job, "--http", "127.0.0.1:0"], self.mounts) as coordinator:
            page = coordinator.until(r"page: (http://127\.0\.0\.1:\d+)")[1]
            coordinator.until(LISTENING)
            for path, piece in (("/", b"<!doctype html>"), ("/healthz", b""), ("/readyz", b""), ("/metrics", b"esta_")):
                with urllib.request.urlopen(page + path, timeout=10) as answer:
                    self.assertEqual(answer.status, 200)
                    self.assertIn(piece, answer.read().lower(), path)

    def test_the_record_can_lie_anywhere_that_is_mounted(self) -> None:
        with self.image.start([*PLAIN, "--config", self.job, "--store", f"redb:{STATE}/kept.redb"], self.mounts) as coordinator:
            coordinator.until(LISTENING)
        self.assertTrue((self.lab.path / "kept.redb").is_file())

    def test_elsewhere_nothing_can_be_written(self) -> None:
        for folder in ("/opt/esta/run", "/tmp/run", "/run/esta"):
            code, said = self.image.call([*PLAIN, "--config", self.job, "--set", f"output_dir={folder}"], self.mounts)
            self.assertNotEqual(code, 0)
            self.assertIn("ead-only file system", said)

    @unittest.skipUnless(shutil.which("etcd"), "no etcd here")
    def test_keeps_its_record_on_etcd(self) -> None:
        with etcd() as members:
            arguments = [*PLAIN, "--config", self.job, "--store", f"etcd://{members}/image"]
            with self.image.start(arguments, self.mounts) as coordinator:
                address = coordinator.until(LISTENING)[1]
                coordinator.until("leading")
                code, said = self.image.call(["status", "--coordinator", address])
                self.assertEqual(code, 0, said)
                coordinator.order(signal.SIGTERM)
                coordinator.wait()
        self.assertFalse((self.lab.path / "runs/small/record.redb").exists())


@unittest.skipUnless("worker" in IMAGES, "no worker's image was built")
class Worker(unittest.TestCase):
    """That it trains with one folder to write to."""

    def setUp(self) -> None:
        self.image = IMAGES["worker"]
        self.lab = Lab(self.image.user)
        self.addCleanup(self.lab.close)
        self.mounts = [Mount(self.lab.path, STATE)]

    def pretrain(self) -> None:
        source = self.lab.job("source", 30, "mode: anchor\nreduce: {kind: f32}\n")
        code, said = self.image.call(["pretrain", "--config", source], self.mounts)
        self.assertEqual(code, 0, said)

    def test_pretrains(self) -> None:
        self.pretrain()
        self.assertTrue(list((self.lab.path / "anchors").rglob("model.safetensors")))

    @unittest.skipUnless("coordinator" in IMAGES, "no coordinator's image was built")
    def test_two_finish_a_run_with_the_coordinators_image(self) -> None:
        self.pretrain()
        job = self.lab.job("small", 20)
        with contextlib.ExitStack() as stack:
            serve = [*PLAIN, "--config", job, "--workers", "2"]
            coordinator = stack.enter_context(IMAGES["coordinator"].start(serve, self.mounts))
            address = coordinator.until(LISTENING)[1]
            for name in ("w0", "w1"):
                train = ["train", "--coordinator", address, "--name", name]
                stack.enter_context(self.image.start(train, self.mounts, {"GLOO_SOCKET_IFNAME": "lo"}))
            self.assertEqual(coordinator.wait(), 0, coordinator.said)
        self.assertTrue((self.lab.path / "runs/small/palette.json").is_file())
        self.assertTrue(list((self.lab.path / "runs/small/export").rglob("model.safetensors")))


@contextlib.contextmanager
def etcd():
    """A member of its own, on loopback; answers its address."""
    with tempfile.TemporaryDirectory(prefix="esta-image-etcd-") as folder:
        client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        command = ["etcd", "--data-dir", folder, "--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            for line in process.stdout:
                if "serving insecure client requests" in line or "ready to serve client requests" in line:
                    break
            else:
                raise AssertionError("etcd did not start")
            yield client.removeprefix("http://")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    unittest.main()
