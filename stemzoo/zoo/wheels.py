"""Wheels of NumPy and onnxruntime for a PC without network: which platforms there are, and how pip is asked for them.

Only these two are fetched: onnxruntime runs without the packages that it declares beside NumPy, and what it declares depends on the machine
that asks, not on the one that it is for. Called by zoo.microscope.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stemzoo.errors import OutputError

PACKAGES = ("numpy", "onnxruntime")
TAGS = {
    "windows": ("win_amd64",),
    "linux": ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "macos": tuple(f"macosx_{version}_0_{kind}" for version in (14, 13, 12, 11) for kind in ("arm64", "universal2")),
}
"""Platform → the tags of wheels that it takes: 64-bit Windows, Linux on x86-64 with glibc 2.28 or newer, macOS 14 on Apple silicon."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of PC: `system` is a key of TAGS, `python` its version, such as 3.8."""

    system: str
    python: str

    @property
    def name(self) -> str:
        """As the user writes it."""
        return f"{self.system}-{self.python}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Return the target in `windows-3.8`. Raises: OutputError.

        >>> Target.parse("Windows-3.8").name
        'windows-3.8'
        """
        found = re.fullmatch(r"([a-z]+)-(3\.(\d+))", text.lower())
        if found is None or found[1] not in TAGS or int(found[3]) < 8:
            raise OutputError(f"--wheels {text!r} is no platform; wanted one of {', '.join(TAGS)}, - and Python from 3.8, e.g. windows-3.8")
        return cls(found[1], found[2])


def fetch(target: Target, folder: Path) -> list[Path]:
    """Put the newest wheels for `target` into `folder`, through pip, and return them. Raises: OutputError with pip's last word."""
    tags = [word for tag in TAGS[target.system] for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", target.python, *tags, "--dest", str(folder), *PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != len(PACKAGES):
        last = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "no reason given").strip()
        raise OutputError(
            f"--wheels {target.name}: pip fetched {len(wheels)} of {len(PACKAGES)} wheels ({last[:200]}); is there a network?"
        )
    return wheels
