"""The README files: their commands, tables and options, and what the code says of these."""

import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from config import TrainConfig, TrainPaths
from runtime.arguments import parse
from support.making import own_environ

ROOT = Path(__file__).parents[2]
NAMES = (
    *("README.md", "code/README.md", "container/README.md"),
    *("tests/faults/README.md", "tests/benchmarks/README.md"),
)
TEXTS = {name: (ROOT / name).read_text() for name in NAMES}
README = TEXTS["README.md"]
MOST_WORDS = 1600  # as `wc -w` counts; details belong into the README of a folder

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUR_COMMANDS = ("make", "python", "submit.py", ".venv/bin/pytest")
OTHER_COMMANDS = ("docker", "curl", "aws", "pip", "apt-get", "export", "alias")
SCRIPTS = (
    *("code/train.py", "code/inference.py", "code/evaluation.py", "code/demo.py"),
    *("container/transform.py", "container/serve.py"),
    *("code/cv.py", "code/audit.py", "code/export.py", "code/weights.py"),
)
DETAILED = (
    "code/audit.py",
    "code/export.py",
    "code/weights.py",
)  # their folders are in code/README.md, those of others in README.md
ORIGINAL_FILES = {f"{name}.py" for name in ("dataset", "inference", "evaluation", "loss", "model", "train")}
# `submit.py train ... -- OPTIONS`: whose options those are.
OPTIONS_AFTER_DASHES = {
    **dict.fromkeys(("train", "cv", "tune"), "code/train.py"),
    "evaluate": "code/evaluation.py",
}


# ---- reading a README ----


def spans(text: str) -> list[str]:
    """Return what stands between backticks outside of blocks."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


def block_lines(text: str) -> Iterator[str]:
    """Yield the command lines of all blocks: those of `sh`, and those of `console` that begin with a dollar."""
    for language, body in FENCE.findall(text):
        for line in body.replace("\\\n", " ").splitlines():
            if language == "sh" and line.strip() and not line.startswith("#"):
                yield line
            if language == "console" and line.startswith("$ "):
                yield line.removeprefix("$ ")


def words_of(line: str) -> list[str]:
    """Split a command line as a shell does; NAME=$(command) is that command, and leading variables are left out."""
    inner = re.match(r"\w+=\$\((.*)\)", line)
    words = shlex.split(inner[1] if inner else line, comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return [word for word in words if not word.startswith(">")]


def is_command(span: str) -> bool:
    first, _, rest = span.partition(" ")
    return bool(rest) and first in OUR_COMMANDS + OTHER_COMMANDS


def commands() -> list[tuple[str, str]]:
    """Return (README, command line) of every command, in blocks and in text."""
    found: dict[str, str] = {}
    for name, text in TEXTS.items():
        for line in [*block_lines(text), *filter(is_command, spans(text))]:
            found.setdefault(line, name)
    return [(name, line) for line, name in found.items()]


def tables(text: str, first_header: str) -> list[list[str]]:
    """Return the rows of all tables whose first column has this header, as lists of cells."""
    found = []
    for table in re.findall(rf"^\| {first_header} \|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE):
        found += [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    assert found, f"no table whose first column is {first_header!r}"
    return found


# ---- asking the code ----


@functools.cache
def help_of(*command: str) -> str:
    """Return what `python COMMAND --help` prints, one option per line."""
    environ = os.environ | {"COLUMNS": "999"}
    done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def options_of(*command: str) -> set[str]:
    """Return the options that a script, or one of its subcommands, accepts."""
    if command[0].startswith("tests/"):
        options = re.findall(r'add_argument\("(--[\w-]+)"', (ROOT / command[0]).read_text())
    else:
        options = re.findall(r"^ +(?:-\w, )?(--[\w-]+)", help_of(*command), re.MULTILINE)
    assert options
    return set(options)


def used(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}


@functools.cache
def all_options() -> frozenset[str]:
    """Return the options of every script, and of every command of submit.py that a README names."""
    submit = {("container/submit.py", words_of(line)[1]) for _, line in commands() if line.startswith("submit.py ")}
    benchmarks = {(f"tests/benchmarks/{path.name}",) for path in (ROOT / "tests/benchmarks").glob("bench_*.py")}
    known: set[str] = set()
    for command in {(script,) for script in SCRIPTS} | submit | benchmarks:
        known |= options_of(*command)
    return frozenset(known)


def check_script(script: str, words: list[str]) -> None:
    """The script exists and knows the options; those of code/train.py are read, values and all."""
    assert (ROOT / script).is_file(), script
    if script == "container/submit.py":
        at = words.index("--") if "--" in words else len(words)
        assert used(words[:at]) <= options_of(script, words[0])
        if words[at + 1 :]:
            check_script(OPTIONS_AFTER_DASHES[words[0]], words[at + 1 :])
        return
    assert used(words) <= options_of(script)
    if script == "code/train.py" and "--help" not in words:
        parse("train.py", words, {}, TrainPaths, TrainConfig)


def check_make(words: list[str]) -> None:
    """Make knows the targets; every script that it would start exists and knows the options."""
    assert any("=" not in word for word in words[1:]), "no target"
    given = {"DATA": "data", "RUNTIME": "host", "JOB": "job", "SEARCH": "lr=0.1:1"}
    given |= dict(word.split("=", 1) for word in words[1:] if "=" in word)
    targets = [word for word in words[1:] if "=" not in word]
    command = ["make", "--dry-run", *targets, *(f"{name}={value}" for name, value in given.items())]
    done = subprocess.run(command, cwd=ROOT, env=own_environ(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The recipes read what was given from the environment, and what a script has found from "$@".
    joined = done.stdout.replace("\\\n", " ").replace('"$@"', "")
    printed = re.sub(r"\$(\w+)", lambda found: given.get(found[1], ""), joined)
    for script, rest in re.findall(r"python ((?:code|container|tests/benchmarks)/\w+\.py)([^\n;|&>)]*)", printed):
        check_script(script, shlex.split(rest))


def check_docker(words: list[str]) -> None:
    """A service of docker-compose.yml, with options that one of our commands knows."""
    services = re.findall(
        r"^  ([a-z-]+):", (ROOT / "docker-compose.yml").read_text().split("\nservices:")[1], re.MULTILINE
    )
    if words[1] == "compose":
        named = [index for index, word in enumerate(words) if word in services]
        assert named, f"no service among {words}"
        assert used(words[named[0] :]) <= all_options()
