"""The README is true: its picture is drawn, its variables, flags, files and make targets exist."""

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import config
import transform
from demo import contact_sheet
from jobs import common as account_options
from jobs import job_options
from labels import MASKED_FACES
from server import settings as serve_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FIELDS = [
    field
    for module in (config, account_options, job_options, serve_config, transform)
    for cls in vars(module).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls)
    for field in dataclasses.fields(cls)
]


def test_the_picture_is_the_sheet_that_demo_draws() -> None:
    with Image.open(ROOT / ".github/faces.jpg") as shown:
        difference = np.asarray(shown, np.float64) - np.asarray(contact_sheet(42, MASKED_FACES), np.float64)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 30


def test_the_contract_table_names_every_folder_variable_and_no_other() -> None:
    variables = {field.metadata[key] for field in FIELDS for key in ("variable", "also") if field.metadata.get(key)}
    known = {name for name in variables if name.startswith("SM_")}
    rows = [line for line in README.splitlines() if line.startswith("| `SM_")]
    shown = {name for row in rows for name in re.findall(r"SM_[A-Z_]+", row.split("|")[1])}
    assert shown - {"SM_OUTPUT_DIR"} == known


def test_every_flag_in_the_text_exists() -> None:
    known = {f"--{field.name}".replace("_", "-") for field in FIELDS}
    others = re.compile("docker|submit|curl|make bench|pip install|aws ")
    text = "\n".join(line for line in README.splitlines() if not others.search(line))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help", "--dry-run", "--network", "--rm"} <= known


def test_every_make_target_in_the_text_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for line in re.findall(r"^([a-z -]+):", makefile, re.MULTILINE) for name in line.split()}
    used = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert used <= targets


def test_the_tree_names_every_file() -> None:
    tree = README.split("## The tree")[1]
    for folder in ("code", "container"):
        missing = [path.name for path in sorted((ROOT / folder).glob("*.py")) if path.name not in tree]
        assert missing == []


def test_results_come_with_the_command_that_made_them() -> None:
    chapter = README.split("## Results")[1].split("\n## ")[0]
    assert "python code/train.py" in chapter


@pytest.mark.parametrize("target", ["help", "demo", "train"])
def test_make_knows_what_to_do(target: str) -> None:
    command = ["make", "--dry-run", target, "DATA=/", "RUNTIME=host"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
