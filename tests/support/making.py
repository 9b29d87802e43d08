"""The Makefile, run with programs that only note how they were called."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STUB = """#!{python}
import json, os, sys
with open({record!r}, "a") as file:
    file.write(json.dumps([sys.argv, dict(os.environ)]) + chr(10))
"""
# Everything that a shell would take for its own, and what make would: `$`, `#`, `%`, `,`, `=`.
HOSTILE = "a b;c&d(e)'f\"g`h`$HOME$(HOME)*<i>|j?[k]{l}~m!#n%o,p=q\\r"


def own_environ() -> dict[str, str]:
    """Return the environment for a make that a test starts: nothing that was given to the make that started the tests.

    Make hands its variables on to every make below it (MAKEFLAGS), so that the test below `make test ARGS=--cov` would
    give --cov to a command that does not know it.
    """
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("DOCKER_")}


class Make:
    """Run the Makefile with programs that only note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.record, self.bin = folder / "calls", folder / "bin"
        self.bin.mkdir()
        for name in ("python", "docker", "pytest", "ruff", "mypy", "hadolint"):
            (self.bin / name).write_text(STUB.format(python=sys.executable, record=str(self.record)))
            (self.bin / name).chmod(0o755)

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        installed = [f"--old-file=.venv{name}" for name in ("/job", "/export", "/dev", "-acceptance/sdk")]
        command = ["make", *installed, *words, f"BIN={self.bin}"]
        known = own_environ() | {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": "/someone"}
        return subprocess.run(command, cwd=ROOT, env=known | environ, capture_output=True, text=True)

    def calls(self, *words: str, **environ: str) -> list[dict[str, Any]]:
        """Return the words and the environment of each program that make started."""
        done = self.run(*words, **environ)
        assert done.returncode == 0, done.stderr
        lines = self.record.read_text().splitlines()
        return [dict(zip(("words", "environ"), json.loads(line), strict=True)) for line in lines]

    def call(self, program: str, *words: str, **environ: str) -> dict[str, Any]:
        """Return the one call whose words name a program."""
        (found,) = [call for call in self.calls(*words, **environ) if program in " ".join(call["words"])]
        return found


def options_of(call: dict[str, Any], program: str) -> list[str]:
    words: list[str] = call["words"]
    return words[next(place for place, word in enumerate(words) if word.endswith(program)) + 1 :]
