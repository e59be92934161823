"""Rules of our own for the Dockerfile; nothing is built here."""

import json
import re
import shutil
import subprocess
import tomllib
import unittest

from dockerfile import CHECKOUT, Dockerfile

TARGETS = ("coordinator", "worker", "worker-cuda")
LABELS = ("title", "description", "licenses", "version", "revision", "source")


class Images(unittest.TestCase):
    """What holds for each of the images."""

    def setUp(self) -> None:
        self.file = Dockerfile.of_checkout()

    def test_user_is_a_number_other_than_root(self) -> None:
        for target in TARGETS:
            with self.subTest(target):
                user = self.file.last(target, "USER") or ""
                self.assertRegex(user, r"^[1-9]\d*:[1-9]\d*$")

    def test_nothing_is_run_as_the_user(self) -> None:
        """What a step leaves behind as the user could be changed by the user."""
        for target in TARGETS:
            with self.subTest(target):
                steps = [name for stage in self.file.chain(target) for name, _ in stage.steps]
                self.assertNotIn("RUN", steps[steps.index("USER"):])

    def test_programs_are_started_without_a_shell(self) -> None:
        for target in TARGETS:
            with self.subTest(target):
                [program] = json.loads(self.file.last(target, "ENTRYPOINT") or "[]")
                self.assertTrue(program.startswith("/opt/esta/bin/"), program)
                self.assertEqual(json.loads(self.file.last(target, "CMD") or "[]"), ["--help"])

    def test_entrypoints_are_what_the_builds_install(self) -> None:
        installed = set(re.findall(r"install -D \S+ (/opt/esta/bin/\S+)", self.file.text))
        for target in TARGETS:
            with self.subTest(target):
                [program] = json.loads(self.file.last(target, "ENTRYPOINT") or "[]")
                self.assertIn(program, installed)

    def test_orders_to_stop_are_sigterm(self) -> None:
        for target in TARGETS:
            with self.subTest(target):
                self.assertEqual(self.file.last(target, "STOPSIGNAL"), "SIGTERM")

    def test_one_folder_is_written_to(self) -> None:
        for target in TARGETS:
            with self.subTest(target):
                self.assertEqual(json.loads(self.file.last(target, "VOLUME") or "[]"), ["/var/lib/esta"])
                self.assertEqual(self.file.last(target, "WORKDIR"), "/var/lib/esta")

    def test_labels(self) -> None:
        for target in TARGETS:
            with self.subTest(target):
                labels = self.file.labels(target)
                self.assertEqual(sorted(labels), sorted(f"org.opencontainers.image.{label}" for label in LABELS))
                for label in ("version", "revision", "source"):
                    self.assertEqual(labels[f"org.opencontainers.image.{label}"], f"${{{label.upper()}}}")

    def test_the_version_is_that_of_the_workspace(self) -> None:
        workspace = tomllib.loads((CHECKOUT / "Cargo.toml").read_text())["workspace"]["package"]
        for target in TARGETS:
            with self.subTest(target):
                self.assertIn(f"VERSION={workspace['version']}", self.file.stages[target].arguments("ARG"))
                licenses = self.file.labels(target)["org.opencontainers.image.licenses"]
                self.assertTrue(licenses.startswith(workspace["license"]), licenses)

    def test_the_coordinator_has_no_libtorch_and_no_shell(self) -> None:
        chain = self.file.chain("coordinator")
        self.assertEqual(chain[0].base, "scratch")
        text = " ".join(rest for stage in chain for _, rest in stage.steps)
        self.assertNotIn("torch", text)


class Steps(unittest.TestCase):
    """What holds for every step."""

    def setUp(self) -> None:
        self.file = Dockerfile.of_checkout()
        self.steps = [(stage.name, *step) for stage in self.file.stages.values() for step in stage.steps]

    def test_base_images_have_a_registry_and_an_exact_version(self) -> None:
        for image in self.file.images():
            self.assertRegex(image, r"^(scratch|[a-z.]+/[a-z/]+:\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?)$")

    def test_both_base_images_are_of_one_debian_release(self) -> None:
        """Both are Debian 13: what is compiled against one C library runs with the other."""
        self.assertIn("trixie", self.file.arguments["RUST_IMAGE"])
        self.assertIn("debian:13.", self.file.arguments["DEBIAN_IMAGE"])

    def test_rust_is_as_new_as_the_workspace_wants(self) -> None:
        wanted = tomllib.loads((CHECKOUT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
        found = re.search(r"rust:([\d.]+)-", self.file.arguments["RUST_IMAGE"])
        self.assertGreaterEqual([int(n) for n in found[1].split(".")], [int(n) for n in wanted.split(".")])

    def test_nothing_is_added_from_an_address(self) -> None:
        for stage, name, rest in self.steps:
            self.assertNotEqual(name, "ADD", stage)
            self.assertNotRegex(rest, r"https?://|curl |wget |git clone", stage)

    def test_any_builder_can_carry_them_out(self) -> None:
        for stage, name, rest in self.steps:
            self.assertNotRegex(f"{name} {rest}", r"^(RUN|COPY) .*--(mount|link|parents|chmod)|<<", stage)

    def test_cargo_keeps_to_the_lock_file(self) -> None:
        for stage, _, rest in self.steps:
            for command in re.findall(r"cargo (?:build|fetch)[^&]*", rest):
                self.assertRegex(command, "--(locked|frozen)", stage)

    def test_package_lists_are_gone_at_the_end_of_their_step(self) -> None:
        for stage, name, rest in self.steps:
            if name == "RUN" and "apt-get install" in rest:
                self.assertIn("--no-install-recommends", rest, stage)
                self.assertRegex(rest, r"&& rm -rf /var/lib/apt/lists/\*", stage)

    def test_dependencies_are_compiled_before_sources_come(self) -> None:
        for name in ("coordinator-build", "worker-build", "worker-cuda-build"):
            steps = [" ".join(step) for step in self.file.stages[name].steps]
            first = next(i for i, step in enumerate(steps) if "cargo build" in step)
            sources = [i for i, step in enumerate(steps) if step.startswith("COPY ") and "--from" not in step]
            self.assertTrue(all(i > first for i in sources), name)

    def test_no_argument_is_a_secret(self) -> None:
        for stage, name, rest in self.steps:
            if name in ("ARG", "ENV"):
                self.assertNotRegex(rest, r"(?i)token|secret|passw|key", stage)

    def test_copied_paths_reach_the_builder(self) -> None:
        allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        for stage, name, rest in self.steps:
            if name != "COPY" or "--from" in rest:
                continue
            for path in rest.split()[:-1]:
                self.assertTrue(path == "." or path in allowed, f"{stage}: {path}")
                self.assertTrue((CHECKOUT / path).exists(), path)


class Workspace(unittest.TestCase):
    """What of the checkout reaches the builder."""

    def test_every_member_of_the_workspace(self) -> None:
        ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
        for member in tomllib.loads((CHECKOUT / "Cargo.toml").read_text())["workspace"]["members"]:
            top = member.split("/")[0]
            self.assertTrue(f"!{top}" in ignored or f"!{member}/Cargo.toml" in ignored, member)

    def test_everything_else_stays_outside(self) -> None:
        ignored = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
        self.assertEqual(ignored[0], "*")


@unittest.skipUnless(shutil.which("hadolint"), "scripts/image-lint.sh brings hadolint")
class Linter(unittest.TestCase):
    """That the linter would notice."""

    def test_a_careless_file_is_refused(self) -> None:
        careless = b"FROM debian\nRUN cd /tmp && apt-get install curl\nENTRYPOINT curl\n"
        said = subprocess.run(["hadolint", "-"], input=careless, capture_output=True, check=False)
        self.assertNotEqual(said.returncode, 0)
        for rule in (b"DL3006", b"DL3003", b"DL3015", b"DL3025"):
            self.assertIn(rule, said.stdout)


if __name__ == "__main__":
    unittest.main()
