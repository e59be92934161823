"""A Dockerfile as its instructions and stages: as much as the tests ask about."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Stage:
    """What stands between one FROM and the next; `base` is an image or the name of a stage, arguments put in."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, instruction: str) -> list[str]:
        """What follows each instruction of this name."""
        return [rest for name, rest in self.steps if name == instruction]


class Dockerfile:
    """The stages by name, in order, and the arguments before the first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.arguments: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}
        stage = None
        for name, rest in instructions(text):
            if name == "FROM":
                words = [word for word in self.fill(rest).split() if not word.startswith("--")]
                alias = words[2] if len(words) == 3 else f"stage-{len(self.stages)}"
                stage = self.stages[alias] = Stage(words[0], alias)
            elif stage is None:
                key, _, value = rest.partition("=")
                self.arguments[key] = value
            else:
                stage.steps.append((name, rest))

    @classmethod
    def of_checkout(cls) -> "Dockerfile":
        """The Dockerfile of this checkout."""
        return cls((CHECKOUT / "Dockerfile").read_text())

    def fill(self, text: str) -> str:
        """The text with the global arguments put in."""
        return re.sub(r"\$\{(\w+)\}", lambda found: self.arguments[found[1]], text)

    def chain(self, name: str) -> list[Stage]:
        """The stages that one is made of, from the one upon an image to itself."""
        stage = self.stages[name]
        return [*self.chain(stage.base), stage] if stage.base in self.stages else [stage]

    def last(self, name: str, instruction: str) -> str | None:
        """What the image of a stage gets from the last such instruction along its chain."""
        found = [rest for stage in self.chain(name) for rest in stage.arguments(instruction)]
        return found[-1] if found else None

    def labels(self, name: str) -> dict[str, str]:
        """The labels of a stage's image, arguments not put in."""
        texts = [rest for stage in self.chain(name) for rest in stage.arguments("LABEL")]
        return dict(word.split("=", 1) for text in texts for word in shlex.split(text))

    def images(self) -> list[str]:
        """The images that stages begin with."""
        return [stage.base for stage in self.stages.values() if stage.base not in self.stages]


def instructions(text: str) -> list[tuple[str, str]]:
    """Name and rest of every instruction; lines that go on are joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]
