"""The start of a run on several workers: what is fixed from then on, and the state that all of them begin with.

Every start is a resume: the first worker reads the checkpoint, or creates the state of a run from scratch, and the
others load the bytes that it sends. Nothing else that they have is used.
"""

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from config import TrainConfig, TrainPaths
from recipes import choose, explain, has_initial_weights
from runtime.devices import runtime_versions, select_dtype
from runtime.errors import DataError
from runtime.files import read_regular
from runtime.json_files import parse_json
from runtime.process import cpu_count
from runtime.version import version
from training.checkpoint import MAX_MANIFEST_BYTES, State, find_manifests
from training.fingerprint import FORMAT_OF_SUMS, TOO_EXPENSIVE, upgrade_checkpoint
from training.workers import Workers

SUM_FORMAT = 1  # increase when sums over parts have other bits


@dataclass(frozen=True)
class Kept:
    """What the run in a checkpoint folder has fixed, as far as it is needed before the checkpoint is loaded."""

    parts: int = 0  # 0 if there is no checkpoint
    threads: int = 0  # of torch, on a CPU; 0 if it is not known
    too_expensive: list[str] = field(default_factory=list)  # paths of images left out because of what decoding costs
    fingerprint: Mapping[str, Any] = field(default_factory=dict)  # empty before the first step
    recipe: str = ""  # empty before the first step


def read_kept(folder: str | Path | None) -> Kept:
    """Return what the newest checkpoint in a folder has fixed. Damaged manifests are ignored here."""
    for path in find_manifests(Path(folder)) if folder else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = dict(parse_json(read_regular(path, MAX_MANIFEST_BYTES)))
            manifest, _ = upgrade_checkpoint(found, {}, {"parts": 0})
            fingerprint, versions = manifest["fingerprint"], manifest["runtime_versions"]
            too_expensive = list(map(str, fingerprint.get(TOO_EXPENSIVE, ())))
            started = fingerprint if manifest["step"] else {}
            recipe = str(manifest.get("recipe", "original")) if manifest["step"] else ""  # 0.1.0 had no other
            return Kept(int(fingerprint["parts"]), int(versions.get("threads", 0)), too_expensive, started, recipe)
    return Kept()


def find_kept(checkpoint_dir: str | Path | None, args: TrainConfig, workers: Workers) -> Kept:
    """Return what the run to resume has fixed, if there is one; the other workers hear it from the first one."""
    return read_kept(checkpoint_dir if args.resume != "never" and workers.is_first else None)


def choose_recipe(paths: TrainPaths, args: TrainConfig, workers: Workers, kept: Kept) -> str:
    """Return the recipe that `--recipe auto` stands for, and print why; all workers get that of the first one."""
    has_weights = has_initial_weights(args.pretrained, paths.pretrained_dir)
    recipe = str(workers.tell(choose(has_weights=has_weights, kept=kept.recipe)))
    print(explain(recipe, has_weights=has_weights, kept=kept.recipe), flush=True)
    return recipe


def settle(args: TrainConfig, workers: Workers, device: torch.device, kept: Kept) -> tuple[TrainConfig, list[str]]:
    """Fix what a run keeps: the number of parts and, with several on CPUs, the threads of each worker.

    Returns the options with the number of parts, and without the number of workers, which no file of the run names;
    then the paths of images that are too expensive to decode. Raises ConfigError if workers differ in what the bits
    depend on, or for a number format that the GPU does not have.
    """
    select_dtype(args.precision, device)  # one that the GPU lacks ends the run before its images are read
    parts = args.parts or kept.parts or min(workers.size, max(1, args.batch_size // 2))
    limit = _openmp_threads(os.environ) or cpu_count()
    threads = kept.threads or max(1, min(cpu_count() // parts, limit))
    parts, threads, too_expensive = workers.tell((parts, threads, kept.too_expensive))
    if parts > 1 and device.type == "cpu":
        torch.set_num_threads(threads)
    if workers.size > parts and workers.is_first:
        print(
            f"warning: {workers.size - parts} of {workers.size} workers are idle, because each batch of this run has "
            f"{parts} part{'s' * (parts > 1)}; --parts is chosen when a run starts from scratch",
            file=sys.stderr,
        )
    versions = {"version": version(), "device": device.type, **runtime_versions(device)}
    workers.require_same(versions, "use the same image and the same type of machine for all workers")
    return replace(args, parts=parts, nproc_per_node=0), too_expensive


def _openmp_threads(environ: Mapping[str, str]) -> int:
    """Return the first number in OMP_NUM_THREADS, which may be a list such as 4,2; 0 if there is none."""
    first = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def versions_of(device: torch.device) -> dict[str, Any]:
    """Return what the bits of a run depend on besides data and settings; the sum format only if it adds up parts."""
    return runtime_versions(device) | {FORMAT_OF_SUMS: SUM_FORMAT}


def share_state(saved: State | None, workers: Workers) -> State:
    """Return the state that the first worker gives, on the CPU; the others give none."""
    buffer = io.BytesIO()
    if saved is not None:
        torch.save(saved, buffer)
    data = workers.broadcast(buffer.getvalue())
    state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def require_same_data(fingerprint: Mapping[str, Any], args: TrainConfig, workers: Workers) -> None:
    """Raise DataError if workers have other data, and ConfigError if they have other options."""
    workers.require_same(args.fingerprint(), "start all workers with the same options")
    workers.require_same(
        fingerprint, "all hosts need the same images (FullyReplicated channels, not ShardedByS3Key)", DataError
    )
