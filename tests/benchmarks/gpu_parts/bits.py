"""The same steps in two fresh processes at once, each with another order of networks: one sha256 for each network.

A network with a precision is an item. Each process writes a line for each item that it is done with.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.check import Check

FAMILIES = (
    *("TinyModel", "resnet18", "vit_b_16", "swin_t", "efficientnet_b0", "alexnet", "vgg11_bn", "resnet50"),
    *("convnext_tiny", "regnet_y_400mf", "googlenet", "maxvit_t"),
)
WORKER = Path(__file__).with_name("bits_worker.py")
# These say that a network does not run on this card, not that its bits differ.
DOES_NOT_RUN = ("DeviceError", "OutOfMemoryError", "ConfigError")
Found = dict[str, Any]  # a line of a worker: item, digest, moved, error


@dataclass(frozen=True)
class Item:
    """A network, the number format that it trains in, and how many steps it takes."""

    model: str
    precision: str
    steps: int

    def __str__(self) -> str:
        return f"{self.model} {self.precision}, {self.steps} steps"


def run(check: Check) -> None:
    """Run both processes and judge each item as soon as both are done with it."""
    items = items_of(check.form, check.device)
    files = [check.file.with_name(f"bits-{number}.jsonl") for number in (1, 2)]
    workers = [start(check, file, order) for file, order in zip(files, (items, swapped(items)), strict=True)]
    judged: set[str] = set()
    while True:
        ended = all(worker.poll() is not None for worker in workers)
        first, second = (read(file) for file in files)
        for name in first.keys() & second.keys() - judged:
            judge(check, name, first[name], second[name])
            judged.add(name)
        if ended:
            break
        time.sleep(0.2)
    check.holds("both processes ended well", not any(worker.returncode for worker in workers))
    for item in items:
        if str(item) not in judged:
            check.skip(str(item), "no time left")


def items_of(form: str, device: str) -> list[Item]:
    """Return the items of a form, the most telling ones first; fp16 is for GPUs only."""
    if form == "tiny":
        return [Item("TinyModel", "fp16" if device == "cuda" else "bf16", 2), Item("resnet18", "fp32", 1)]
    if form == "short":
        others = [Item(name, precision, 3) for name in FAMILIES[:3] for precision in ("fp16", "fp32")]
        return [Item(name, "bf16", 3) for name in FAMILIES] + others
    all_precisions = [Item(name, precision, 20) for precision in ("bf16", "fp16", "fp32") for name in FAMILIES]
    return all_precisions + [Item(name, "bf16", 1) for name in other_networks()]


def other_networks() -> list[str]:
    """Return all other networks by name; one step each shows that cuDNN has deterministic kernels for them."""
    from model import model_names

    return [name for name in model_names() if name not in (*FAMILIES, "MyModel")]


def swapped(items: list[Item]) -> list[Item]:
    """Return the items with neighbours swapped: no item comes at the same time or after the same ones."""
    return [item for at in range(0, len(items), 2) for item in reversed(items[at : at + 2])]


def start(check: Check, file: Path, items: list[Item]) -> subprocess.Popen[bytes]:
    file.unlink(missing_ok=True)
    text = json.dumps([asdict(item) for item in items])
    return subprocess.Popen([sys.executable, str(WORKER), check.device, str(file), f"{check.seconds_left:.0f}", text])


def read(file: Path) -> dict[str, Found]:
    """Return the complete lines of a worker by item."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return {found["item"]: found for found in map(json.loads, lines)}


def judge(check: Check, name: str, first: Found, second: Found) -> None:
    """Judge an item that both processes are done with."""
    errors = {found["error"] for found in (first, second)}
    if errors != {""}:
        reason = "; ".join(sorted(errors - {""}))
        if all(error.startswith(DOES_NOT_RUN) for error in errors):
            check.skip(name, reason)
        else:
            check.holds(f"{name}: runs", False, reason)
        return
    same = first["digest"] == second["digest"]
    check.computes(name, same, first["digest"][:12] if same else "other bits", "equal")
    if not (first["moved"] and second["moved"]):
        check.computes(f"{name}: the loss is finite and the weights change", False)
